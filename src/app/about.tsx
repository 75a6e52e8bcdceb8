/** What this page is, in a few sentences. */
export function AboutScreen() {
  return (
    <main class="page prose" id="main">
      <h2>What this is</h2>
      <p>
        TabTune runs Qwen3-VL, a model that sees pictures and talks about them, on your own GPU inside this browser tab.
        There is no server behind it: the page is a set of static files. On the <a href="#/train">Train page</a> it
        learns from your own pictures, questions and answers.
      </p>
      <h2>What leaves this device</h2>
      <p>
        Nothing. Pictures, chats, data sets, adapters and models are kept in this browser's storage. The only other host
        the page ever contacts is huggingface.co, and only while you import a model from there. A content security
        policy in the page enforces that. There are no cookies and no statistics.
      </p>
      <p>
        If you clear this site's data, all of it is gone. Export what you want to keep: chats in their header, data sets
        and adapters on the <a href="#/train">Train page</a>.
      </p>
      <h2>The demo model</h2>
      <p>
        So that the page works at once and offline, it brings a small model along: about 8 million parameters, in the
        architecture of Qwen3-VL, trained only on synthetic bar, line and pie charts and a few sentences about itself.
        It is not Qwen, it knows nothing about the world, and it makes mistakes. Qwen3-VL itself is on the{" "}
        <a href="#/models">Models page</a>.
      </p>
      <h2>When answers look wrong</h2>
      <p>
        Run the <a href="#/selftest">self-test</a>: it compares every computation with a reference on your own GPU and
        driver. A table with red rows is worth a report.
      </p>
    </main>
  );
}
