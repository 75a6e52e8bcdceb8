import type { Prompt } from "./prompt.ts";
import type { Finish, GenerateOptions, GenerateTimes, Session } from "./session.ts";

/** How a thinking model ends its thoughts. */
export interface ThoughtsEnd {
  /** The token "</think>". */
  close: number;
  /** Tokens that are put in when thoughts are ended for it: a line end, the tag, an empty line. */
  closing: readonly number[];
}

/**
 * Answers a prompt that has opened the model's thoughts, and ends them after `budget` tokens: what it thought so far is kept, the end
 * tag is put in, and the model goes on with its answer. Like `Session.generate` otherwise; `generated` and `onTokens` get the tag too.
 */
export async function generateWithin(
  budget: number,
  end: ThoughtsEnd,
  session: Pick<Session, "generate">,
  prompt: Prompt,
  generated: number[],
  options: GenerateOptions,
): Promise<{ finish: Finish; times: GenerateTimes }> {
  let isOver = false;
  let isClosed = generated.includes(end.close);
  const first = await session.generate(prompt, generated, {
    ...options,
    onTokens: (ids) => {
      const before = generated.length - ids.length;
      const at = ids.indexOf(end.close);
      isClosed ||= at >= 0 && before + at <= budget;
      const hasEnded = ids.some((id) => options.settings.ends.includes(id));
      if (isClosed || hasEnded || generated.length < budget) return options.onTokens(ids);
      // Several tokens come at a time: those beyond the budget are dropped, from the cache as well.
      generated.length = budget;
      const isStopped = options.onTokens(ids.slice(0, Math.max(0, budget - before)));
      isOver = !isStopped;
      return true;
    },
  });
  if (!isOver || options.signal?.aborted) return first;
  generated.push(...end.closing);
  const { times } = first;
  times.newTokens = generated.length;
  if (options.onTokens([...end.closing])) return first;
  if (generated.length >= options.maxTokens) return { finish: "length", times };
  const rest = await session.generate(prompt, generated, options);
  return {
    finish: rest.finish,
    times: {
      ...times,
      newTokens: rest.times.newTokens,
      contextUsed: rest.times.contextUsed,
      decodeMilliseconds: times.decodeMilliseconds + rest.times.firstTokenMilliseconds + rest.times.decodeMilliseconds,
    },
  };
}
