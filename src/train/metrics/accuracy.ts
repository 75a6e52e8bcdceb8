/**
 * Whether an answer is the expected one, apart from spaces around it. Numbers are compared as text here.
 * @param expected the answer of the data set; @param found what the model said
 * @internal
 */
export function isExactMatch(expected: string, found: string): boolean {
  return expected.trim() === found.trim();
}

/**
 * ChartQA's relaxed correctness: numbers may be off by 5 % of the expected one; other texts must agree apart from upper and lower case.
 * "12%" counts as 0.12. An expected 0 is compared as text, since nothing is near it by share. Like the script that the field uses
 * (Methani et al. 2020, section 5.1; ChartQA, section 5.1), it knows no units and no separators of thousands: "1,200" and "12 cm" are texts.
 */
export function isRelaxedMatch(expected: string, found: string, tolerance = 0.05): boolean {
  const [target, answer] = [toNumber(expected), toNumber(found)];
  if (answer !== undefined && target) return Math.abs(answer - target) / Math.abs(target) <= tolerance;
  return expected.trim().toLowerCase() === found.trim().toLowerCase();
}

/** A decimal number, with an exponent or a percent sign, as Python's float() reads it; undefined for anything else. */
function toNumber(text: string): number | undefined {
  const match = /^([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(%+)?$/i.exec(text.trim());
  if (!match) return undefined;
  const value = Number(match[1]);
  if (!Number.isFinite(value)) return undefined;
  return match[2] ? value / 100 : value;
}

/** Scores of a set of answers, each 0 to 1. */
export interface Accuracy {
  exact: number;
  relaxed: number;
  examples: number;
}

/** Shares of right answers. */
export function accuracyOf(answers: readonly { expected: string; found: string }[]): Accuracy {
  const share = (isRight: (expected: string, found: string) => boolean) =>
    answers.filter(({ expected, found }) => isRight(expected, found)).length / Math.max(1, answers.length);
  return { exact: share(isExactMatch), relaxed: share(isRelaxedMatch), examples: answers.length };
}
