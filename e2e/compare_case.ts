import { largestDifference, type Reference, relativeL2, same } from "./reference.ts";

/** What the worker's debug entry gives back for one case. All arrays are row-major float32. */
export interface DebugForward {
  inputIds: number[];
  /** [patches, 3·2·16·16], all pictures one after the other; absent without pictures. */
  pixelValues?: Float32Array;
  /** One [t, h, w] per picture or video. */
  grid: number[][];
  /** [3, tokens] */
  positionIds: Int32Array;
  ropeDelta: number;
  /** After each block of the vision tower, [patches, hidden]. */
  visionHidden: Float32Array[];
  /** In the order in which they are computed: a DeepStack merger at each tap, the final merger last. [image tokens, hidden] */
  visionMerged: Float32Array[];
  /** After each decoder layer, before the DeepStack addition, [tokens, hidden]. */
  hidden: Float32Array[];
  /** [tokens, vocabulary] */
  logits: Float32Array;
}

/** Pixel values in normalised units, absolute; the rest relative L2. Issue "Chat", section "How it is proved". */
export const TOLERANCE = { pixelValues: 1e-3, vision: 1e-4, hidden: 1e-4, logits: 1e-4 };

export interface CaseReport {
  case: string;
  pass: boolean;
  tokens: number;
  /** Each absent where the reference holds no such array. */
  pixelValues?: number;
  visionHidden?: number;
  visionMerged?: number;
  hidden?: number;
  logits: number;
  inputIds: boolean;
  grid?: boolean;
  positionIds?: boolean;
  ropeDelta?: boolean;
  greedy: boolean;
}

/** Compares one forward pass and its greedy continuation with the reference. */
export function compareCase(reference: Reference, name: string, got: DebugForward, greedy: number[]): CaseReport {
  const wanted = reference.cases[name]!;
  const tokens = wanted.input_ids.length;
  const lastRows = wanted.logits_rows?.match(/^last (\d+)$/)?.[1];
  /** The rows that the reference kept of a [tokens, width] array. */
  const rows = (data: Float32Array) =>
    lastRows ? data.subarray((data.length / tokens) * (tokens - Number(lastRows))) : data;
  const worst = (found: Float32Array[], names: string[]) =>
    found.length === names.length
      ? Math.max(...names.map((n, i) => relativeL2(found[i]!, reference.array(n).data)))
      : Number.POSITIVE_INFINITY;

  const report: CaseReport = {
    case: name,
    pass: false,
    tokens,
    logits: relativeL2(rows(got.logits), reference.array(wanted.logits).data),
    inputIds: same(got.inputIds, wanted.input_ids),
    greedy: same(greedy, wanted.greedy),
  };
  if (wanted.pixel_values)
    report.pixelValues = largestDifference(got.pixelValues ?? [], reference.array(wanted.pixel_values).data);
  if (wanted.vision_hidden) report.visionHidden = worst(got.visionHidden, wanted.vision_hidden);
  if (wanted.vision_merged) report.visionMerged = worst(got.visionMerged, wanted.vision_merged);
  if (wanted.hidden_states) report.hidden = worst(got.hidden.map(rows), wanted.hidden_states);
  if (wanted.grid_thw) report.grid = same(got.grid.flat(), wanted.grid_thw.flat());
  if (wanted.position_ids) report.positionIds = same(got.positionIds, reference.array(wanted.position_ids).data);
  if (wanted.rope_delta !== undefined) report.ropeDelta = got.ropeDelta === wanted.rope_delta;

  const exact = [report.inputIds, report.grid, report.positionIds, report.ropeDelta, report.greedy];
  report.pass =
    exact.every((ok) => ok !== false) &&
    (report.pixelValues ?? 0) <= TOLERANCE.pixelValues &&
    (report.visionHidden ?? 0) <= TOLERANCE.vision &&
    (report.visionMerged ?? 0) <= TOLERANCE.vision &&
    (report.hidden ?? 0) <= TOLERANCE.hidden &&
    report.logits <= TOLERANCE.logits;
  return report;
}
