import { useEffect, useRef } from "preact/hooks";
import type { Picture, StoredMessage } from "../api/index.ts";
import { picturesOf, tryAgain } from "./actions/chat.ts";
import { useDemo } from "./actions/models.ts";
import { examplePicture, takeExample } from "./actions/pictures.ts";
import { Composer } from "./components/composer.tsx";
import { Notice, ProgressBar } from "./components/controls.tsx";
import { AssistantMessage, UserMessage } from "./components/message.tsx";
import { conversation, examples, loadError, loaded, loadTask, run, runError, runHere } from "./state.ts";

/** The main screen: one conversation and the box to write in. */
export function ChatScreen() {
  const { messages } = conversation.value;
  const error = runError.value?.chatId === conversation.value.id ? runError.value : undefined;
  // A model that could not be loaded is told below, with the ways out.
  const failed = error && error.message !== loadError.value ? error : undefined;
  const last = messages.at(-1);
  return (
    <main class="chat" id="main">
      <Scroller>
        {messages.length === 0 ? (
          <Welcome />
        ) : (
          <div
            class="messages"
            role="log"
            aria-label="Conversation"
            aria-live="polite"
            aria-busy={runHere.value !== undefined}
          >
            {withPictures(messages).map(({ message, pictures }) =>
              message.role === "user" ? (
                <UserMessage key={message.id} message={message} />
              ) : (
                <AssistantMessage key={message.id} message={message} pictures={pictures} />
              ),
            )}
          </div>
        )}
        {failed && (
          <Notice kind="error">
            <p>{failed.message}</p>
            <button type="button" class="quiet" onClick={() => void tryAgain()}>
              Try again
            </button>
          </Notice>
        )}
        {!failed && !run.value && last?.role === "user" && (
          <Notice kind="info">
            <p>This message has no answer yet.</p>
            <button type="button" class="quiet" onClick={() => void tryAgain()}>
              Answer it
            </button>
          </Notice>
        )}
      </Scroller>
      <div class="chat-foot">
        <LoadLine />
        <Composer />
      </div>
    </main>
  );
}

/** Each message with the pictures of the latest turn that had any: those an answer's boxes are about. */
function withPictures(messages: StoredMessage[]): { message: StoredMessage; pictures: Picture[] }[] {
  let pictures: Picture[] = [];
  return messages.map((message) => {
    const own = message.role === "user" ? picturesOf(message, conversation.value.pictures) : [];
    if (own.length > 0) pictures = own;
    return { message, pictures };
  });
}

/** Follows the growing answer, unless the visitor has scrolled up. */
function Scroller({ children }: { children: preact.ComponentChildren }) {
  const ref = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const chatId = conversation.value.id;
  const count = conversation.value.messages.length;
  useEffect(() => {
    const element = ref.current!;
    const content = element.firstElementChild!;
    const follow = () => {
      if (following.current) element.scrollTop = element.scrollHeight;
    };
    const observer = new ResizeObserver(follow);
    observer.observe(content);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    following.current = true;
    ref.current!.scrollTop = ref.current!.scrollHeight;
  }, [chatId, count]);
  return (
    <div
      class="scroller"
      ref={ref}
      onScroll={(event) => {
        const { scrollTop, scrollHeight, clientHeight } = event.currentTarget;
        following.current = scrollHeight - scrollTop - clientHeight < 60;
      }}
    >
      <div class="column">{children}</div>
    </div>
  );
}

/** What an empty conversation shows: what this is, and charts to try. */
function Welcome() {
  const demo = !loaded.value || /demo/i.test(loaded.value.name);
  return (
    <section class="welcome" aria-labelledby="welcome-title">
      <h1 id="welcome-title">Ask about a picture</h1>
      <p>The model runs on your own GPU, inside this tab. Pictures and chats stay on this device.</p>
      {demo && (
        <p class="model-note">
          The demo is a small model of about 10 million parameters, trained on synthetic charts. It is not Qwen and
          knows nothing else. For real conversations, <a href="#/models">get Qwen3-VL</a>.
        </p>
      )}
      {examples.value.length > 0 && (
        <>
          <h2 class="small-title">Try a chart</h2>
          <ul class="examples">
            {examples.value.map((example) => (
              <li key={example.file}>
                <button type="button" class="example" onClick={() => void takeExample(example)}>
                  <img src={examplePicture(example)} alt="" loading="lazy" />
                  <span>{example.title}</span>
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
function LoadLine() {
  const task = loadTask.value;
  if (task)
    return (
      <div class="load-line">
        <p>
          <strong>{task.name}</strong>
        </p>
        <ProgressBar progress={task.progress} label={`Loading ${task.name}`} />
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
