import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { conversation } from "../state.ts";
import { Icon } from "./icons.tsx";

/** Nearer to the end than this many pixels counts as being there. */
const NEAR = 60;

/** Follows the growing answer, unless the visitor has scrolled up; then a button leads back. */
export function Scroller({ children }: { children: ComponentChildren }) {
  const ref = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const [away, setAway] = useState(false);
  const { id, messages } = conversation.value;
  const before = useRef({ id, count: messages.length });
  const toEnd = () => {
    following.current = true;
    ref.current!.scrollTop = ref.current!.scrollHeight;
  };
  useEffect(() => {
    const element = ref.current!;
    const follow = () => {
      if (following.current && conversation.peek().messages.length > 0) element.scrollTop = element.scrollHeight;
    };
    const observer = new ResizeObserver(follow);
    observer.observe(element);
    observer.observe(element.firstElementChild!);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    const { id: oldId, count } = before.current;
    before.current = { id, count: messages.length };
    if (messages.length === 0) ref.current!.scrollTop = 0;
    else if (id !== oldId || messages.length > count) toEnd();
  }, [id, messages.length]);
  return (
    <div class="scroll-frame">
      <div
        class="scroller"
        ref={ref}
        onScroll={(event) => {
          const { scrollTop, scrollHeight, clientHeight } = event.currentTarget;
          following.current = scrollHeight - scrollTop - clientHeight < NEAR;
          setAway(!following.current && messages.length > 0);
        }}
      >
        <div class="column">{children}</div>
      </div>
      {away && (
        <button type="button" class="to-end" onClick={toEnd}>
          <Icon name="down" /> To the end
        </button>
      )}
    </div>
  );
}
