import { describe, expect, it } from "vitest";
import { Governor } from "./governor.ts";

describe("Governor", () => {
  it("follows a slow device down and a fast one up", () => {
    const governor = new Governor();
    const start = governor.budget;
    for (let i = 0; i < 20; i++) governor.learn(1e6, 100);
    expect(governor.budget).toBeLessThan(start / 10);
    for (let i = 0; i < 20; i++) governor.learn(1e12, 50);
    expect(governor.budget).toBeCloseTo(governor.targetMilliseconds * 2e10, -9);
  });
  it("is not slowed by short submits, whose time is mostly waiting", () => {
    const governor = new Governor();
    const start = governor.budget;
    governor.learn(10, 2);
    expect(governor.budget).toBe(start);
  });
  it("cuts rows to the budget, within bounds", () => {
    const governor = new Governor();
    expect(governor.rows(governor.budget / 100, 1, 1000)).toBe(100);
    expect(governor.rows(1e30, 64, 1000)).toBe(64);
    expect(governor.rows(1, 64, 1000)).toBe(1000);
  });
});
