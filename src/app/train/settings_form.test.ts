import { describe, expect, it } from "vitest";
import type { TrainSettings } from "../../api/index.ts";
import { changed, formOf, parseNumber, patienceProblem, restoredForm, settingsOf } from "./settings_form.ts";

const SETTINGS: TrainSettings = {
  lora: {
    r: 16,
    alpha: 16,
    rslora: false,
    parts: { languageAttention: true, languageMlp: true, visionAttention: false, visionMlp: false, mergers: false },
  },
  dropout: 0,
  learningRate: 2e-4,
  schedule: "linear",
  warmup: 5,
  weightDecay: 0.001,
  maxGradNorm: 1,
  optimizer: "adamw8",
  batchSize: 2,
  accumulation: 4,
  epochs: 3,
  maxSteps: 0,
  seed: 3407,
  maxPixels: 448 * 448,
  maxTokens: 2048,
  turns: "all",
  saveEvery: 20,
  evaluateEvery: 20,
  evaluateRows: 200,
};

describe("the settings form", () => {
  it("gives back the settings that it was made of, every one of them", () => {
    const odd: TrainSettings = {
      lora: {
        r: 7,
        alpha: 3.5,
        rslora: true,
        parts: { languageAttention: false, languageMlp: false, visionAttention: true, visionMlp: true, mergers: true },
      },
      dropout: 0.05,
      learningRate: 3.25e-7,
      schedule: "cosine",
      warmup: 0.03,
      weightDecay: 0.25,
      maxGradNorm: 0.3,
      optimizer: "adamw",
      batchSize: 8,
      accumulation: 16,
      epochs: 11,
      maxSteps: 1234567,
      seed: Number.MAX_SAFE_INTEGER,
      maxPixels: 12345,
      maxTokens: 99,
      turns: "last",
      saveEvery: 3,
      evaluateEvery: 4,
      evaluateRows: 0,
    };
    for (const settings of [SETTINGS, odd]) {
      expect(settingsOf(formOf(settings, 5))).toEqual({ settings, patience: 5 });
    }
  });

  it("shows small rates as people write them", () => {
    expect(formOf(SETTINGS, 0)).toMatchObject({ learningRate: "2e-4", weightDecay: "0.001", maxPixels: "200704" });
  });

  it("reads numbers with a comma too, and makes none of what is none", () => {
    expect([" 0,05 ", "2e-4", "1.5", "0"].map(parseNumber)).toEqual([0.05, 2e-4, 1.5, 0]);
    for (const text of ["", " ", "many", "1,000,000", "1.2.3", "2e"]) expect(parseNumber(text)).toBeNaN();
  });

  it("lets alpha follow the rank until it has been given a value of its own", () => {
    const form = formOf(SETTINGS, 0);
    const more = changed(form, "r", "32");
    expect(more).toMatchObject({ r: "32", alpha: "32" });
    const own = changed(more, "alpha", "64");
    expect(changed(own, "r", "8")).toMatchObject({ r: "8", alpha: "64" });
  });

  it("finds a patience that cannot be used", () => {
    for (const patience of ["0", " 5 "]) expect(patienceProblem({ patience })).toEqual([]);
    for (const patience of ["", "-1", "2.5", "long"])
      expect(patienceProblem({ patience })).toMatchObject([{ field: "patience", found: patience }]);
  });

  it("takes from storage what fits, and no more", () => {
    const usual = formOf(SETTINGS, 0);
    expect(restoredForm(usual, { epochs: "9", rslora: "yes", seed: 5, turns: "last", other: "x" })).toEqual({
      ...usual,
      epochs: "9",
      turns: "last",
    });
    expect(restoredForm(usual, undefined)).toBe(usual);
    expect(restoredForm(usual, "text")).toBe(usual);
  });
});
