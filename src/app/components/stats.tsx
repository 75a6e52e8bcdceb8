import type { GenerateStats } from "../../api/index.ts";
import { formatCount, formatDuration, formatRate } from "../format.ts";

/** How fast an answer was; the hints say what each number is. */
export function Stats({ stats }: { stats: GenerateStats }) {
  const read = stats.promptTokens - stats.reusedTokens;
  const items: [name: string, value: string, hint: string][] = [
    ["first token", formatDuration(stats.firstTokenMilliseconds), "From sending to the first token"],
    [
      "prefill",
      formatRate(stats.prefillTokensPerSecond),
      `${formatCount(read)} prompt tokens were read; ${formatCount(stats.reusedTokens)} were still in the cache`,
    ],
    ["decode", formatRate(stats.decodeTokensPerSecond), `${formatCount(stats.newTokens)} tokens were written`],
  ];
  if (stats.encodeMilliseconds >= 1)
    items.push(["pictures", formatDuration(stats.encodeMilliseconds), "Time for encoding new pictures"]);
  items.push(["tokens", formatCount(stats.newTokens), "Tokens of the answer"]);
  const context = `${formatCount(stats.contextUsed)} of ${formatCount(stats.contextLength)}`;
  items.push(["context", context, "Tokens of the whole conversation, of those that fit"]);
  return (
    <dl class="stats">
      {items.map(([name, value, hint]) => (
        <div key={name} title={hint}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** How much of the context is used. */
export function ContextMeter({ used, total }: { used: number; total: number }) {
  const share = total > 0 ? used / total : 0;
  const text = `${formatCount(used)} of ${formatCount(total)} tokens of context used`;
  return (
    <span class={`context-meter ${share > 0.9 ? "full" : ""}`} title={text}>
      <meter aria-label={text} min={0} max={total} high={0.9 * total} value={used} />
      <span aria-hidden="true">{formatCount(used)}</span>
      <span aria-hidden="true" class="of">
        / {formatCount(total)}
      </span>
    </span>
  );
}
