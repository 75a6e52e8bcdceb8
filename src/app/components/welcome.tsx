import { examplePicture, takeExample } from "../actions/examples.ts";
import { useDemo } from "../actions/models.ts";
import { examples, loadError, loaded, loadTask } from "../state.ts";
import { Notice, ProgressBar } from "./controls.tsx";
import { Icon } from "./icons.tsx";

/** What an empty conversation shows: what this is, and charts to try. */
export function Welcome() {
  const demo = !loaded.value || /demo/i.test(loaded.value.name);
  return (
    <section class="welcome" aria-labelledby="welcome-title">
      <h1 id="welcome-title">Ask about a picture</h1>
      <p class="lede">
        Drop one anywhere on this page. The model runs on your own GPU, inside this tab: nothing you show or write
        leaves this device.
      </p>
      {demo && (
        <p class="demo-note">
          <Icon name="info" />
          <span>
            You are talking to a <strong>demo of about 8 million parameters</strong>. It was trained to read simple
            charts, it is not Qwen and it knows nothing else. For real conversations <a href="#/models">get Qwen3-VL</a>
            , once, and keep it in this browser.
          </span>
        </p>
      )}
      {examples.value.length > 0 && (
        <>
          <h2 class="small-title">Try one of these</h2>
          <ul class="examples">
            {examples.value.map((example) => (
              <li key={example.file}>
                <button type="button" class="example" onClick={() => void takeExample(example)}>
                  <img src={examplePicture(example)} alt="" loading="lazy" />
                  <span>
                    {example.questions[0] && <span class="example-question">{example.questions[0]}</span>}
                    <span class="example-title">{example.title}</span>
                  </span>
                </button>
              </li>
            ))}
          </ul>
        </>
      )}
    </section>
  );
}

/** Progress of the model that is being loaded, or why there is none. */
export function LoadLine() {
  const task = loadTask.value;
  if (task)
    return (
      <div class="load-line">
        <ProgressBar progress={task.progress} label={`Loading ${task.name}`} name={task.name} />
      </div>
    );
  if (!loadError.value || loaded.value) return null;
  return (
    <Notice kind="error">
      <p>No model is loaded. {loadError.value}</p>
      <a class="quiet button" href="#/models">
        Choose a model
      </a>
      <button type="button" class="quiet" onClick={() => void useDemo()}>
        Load the demo
      </button>
    </Notice>
  );
}
