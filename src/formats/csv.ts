import Papa from "papaparse";

export interface CsvTable {
  /** One object for each line under the heading; a byte order mark, blank lines and spaces around headings are gone. */
  rows: Record<string, string>[];
  /** By index of the row: what is wrong with the line, for a person. */
  problems: Map<number, string>;
}

/** Reads comma, semicolon or tab separated text (found by itself) with a heading line. Never throws: bad lines are named. */
export function parseCsv(text: string): CsvTable {
  const { data, errors } = Papa.parse<Record<string, string>>(text.replace(/^\ufeff/, ""), {
    header: true,
    skipEmptyLines: "greedy",
    transformHeader: (heading) => heading.trim(),
  });
  const problems = new Map<number, string>();
  for (const { type, row, message } of errors) {
    // One column has no delimiter to be found, and that is no fault. Quotes are counted with the heading, fields without.
    if (type !== "Delimiter" && row !== undefined) problems.set(type === "Quotes" ? row - 1 : row, message);
  }
  return { rows: data, problems };
}
