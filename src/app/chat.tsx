import type { Picture, StoredMessage } from "../api/index.ts";
import { picturesOf, tryAgain } from "./actions/chat.ts";
import { startChat } from "./actions/conversations.ts";
import { Announcer } from "./components/announcer.tsx";
import { Composer } from "./components/composer.tsx";
import { Notice } from "./components/controls.tsx";
import { AssistantMessage, UserMessage } from "./components/message.tsx";
import { Scroller } from "./components/scroller.tsx";
import { LoadLine, Welcome } from "./components/welcome.tsx";
import { conversation, editing, loadError, run, runError } from "./state.ts";

/** From this many messages on, those out of sight are not laid out. */
const LONG = 40;

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
            class={`messages ${messages.length > LONG ? "long" : ""}`}
            role="log"
            aria-label="Conversation"
            aria-live="off"
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
          <Notice
            kind="error"
            onDismiss={() => {
              runError.value = undefined;
            }}
          >
            <p>{failed.message}</p>
            <button type="button" class="quiet" onClick={() => void tryAgain()}>
              Try again
            </button>
            <WayOut code={failed.code} />
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
      <Announcer />
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

/** Where an error of this kind is mended. */
function WayOut({ code }: { code: string }) {
  const asked = conversation.value.messages.findLast((m) => m.role === "user");
  if (code === "ContextFull" || code === "BadImage")
    return (
      <>
        {asked?.parts.some((part) => part.type === "image") && (
          <button
            type="button"
            class="quiet"
            onClick={() => {
              runError.value = undefined;
              editing.value = asked.id;
            }}
          >
            Change its pictures
          </button>
        )}
        <button type="button" class="quiet" onClick={startChat}>
          New chat
        </button>
      </>
    );
  if (code !== "OutOfMemory" && code !== "NotFound" && code !== "DamagedShard") return null;
  return (
    <a class="quiet button" href="#/models">
      Open Models
    </a>
  );
}
