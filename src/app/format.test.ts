import { describe, expect, it } from "vitest";
import {
  formatAgo,
  formatBytes,
  formatDay,
  formatDuration,
  formatParameters,
  formatRate,
  formatSpeed,
  formatTimeLeft,
} from "./format.ts";

describe("formatBytes", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1 kB"],
    [1_234, "1.23 kB"],
    [15_900_000, "15.9 MB"],
    [999_600, "1 MB"],
    [8_880_000_000, "8.88 GB"],
    [123_400_000_000, "123 GB"],
    [Number.POSITIVE_INFINITY, "unlimited"],
    [-5, "0 B"],
  ])("%d → %s", (bytes, text) => expect(formatBytes(bytes)).toBe(text));
});

describe("formatTimeLeft", () => {
  it.each([
    [0, "1 s"],
    [7.2, "8 s"],
    [59.9, "60 s"],
    [60, "1 min"],
    [83, "1 min 25 s"],
    [3599, "60 min"],
    [7201, "2 h 1 min"],
    [Number.NaN, ""],
    [Number.POSITIVE_INFINITY, ""],
  ])("%d → %s", (seconds, text) => expect(formatTimeLeft(seconds)).toBe(text));
});

it("says nothing about a speed that is not known", () => {
  expect(formatSpeed(0)).toBe("");
  expect(formatSpeed(Number.NaN)).toBe("");
  expect(formatSpeed(85_000_000)).toBe("85 MB/s");
});

it("formats durations, rates and sizes of models", () => {
  expect([85.4, 1234, 12_345, 125_000].map(formatDuration)).toEqual(["85 ms", "1.2 s", "12 s", "2 min 5 s"]);
  expect([0, 3.21, 42.4, 1234].map(formatRate)).toEqual(["–", "3.2 tok/s", "42 tok/s", "1,234 tok/s"]);
  expect([11_000_000, 4_438_000_000, 2_500].map(formatParameters)).toEqual(["11 M", "4.4 B", "2,500"]);
});

it("names days by the calendar, not by 24 hours", () => {
  const now = new Date(2026, 10, 24, 0, 30).getTime();
  expect(formatDay(new Date(2026, 10, 23, 23, 50).getTime(), now)).toBe("Yesterday");
  expect(formatDay(now - 60_000, now)).toBe("Today");
  expect(formatDay(new Date(2026, 7, 3).getTime(), now)).toBe("August 2026");
});

it("says how long ago something was", () => {
  const now = new Date(2026, 10, 24, 12).getTime();
  const minutes = (n: number) => formatAgo(now - n * 60_000, now);
  expect([0.5, 5, 61, 1500, 60 * 24 * 12].map(minutes)).toEqual([
    "just now",
    "5 min ago",
    "1 h ago",
    "yesterday",
    "12 days ago",
  ]);
});
