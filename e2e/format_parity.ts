// The app on a checkpoint that was converted to a published quantized form, against the float64 model on what that form's weights are
// worth. `npm run parity -- DIR --format X` and format_parity.test.ts.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import type { DebugApi, DebugForward } from "../src/api/debug_protocol.ts";
import { bf16ToF32, f32ToBf16 } from "../src/formats/dtype.ts";
import { BlobFileSet, type Checkpoint, openCheckpoint } from "../src/formats/index.ts";
import { weightSlots } from "../src/models/index.ts";
import { parseConfig, type Qwen3VLConfig } from "../src/models/qwen3_vl/config.ts";
import { openApp } from "./browser.ts";
import { FORMATS, type FormatWriter } from "./format_writers.ts";
import { type DeviceArgs, debugRequest } from "./parity_cases.ts";
import { openArrays, openReference, relativeL2 } from "./reference.ts";
import { ReferenceModel, type ReferenceWeights } from "./reference_model.ts";

/** Relative L2 of the logits. Issue "Checkpoints", section "How it is proved". */
const TOLERANCE = 1e-3;

export interface FormatReport {
  format: string;
  case: string;
  pass: boolean;
  logits: number;
  /** Weights that the reader keeps exactly, and those that are stored as bf16 instead. */
  kept: number;
  rounded: number;
}

/** A reference's checkpoint in another form: a folder of files, and the weights that the GPU then holds. */
export interface Converted {
  folder: string;
  /** Which of its files to read, where it is GGUF or ONNX. */
  gguf?: { language: string; vision?: string };
  config: Qwen3VLConfig;
  weights: ReferenceWeights;
  kept: number;
  rounded: number;
  remove(): void;
}

/** Of a folder that another program has written: the values that it gives its weights. */
const EXPECTED = "expected.safetensors";

/** A folder that scripts/make_onnx.py has written. */
async function openConverted(folder: string): Promise<Converted> {
  const { names, array } = openArrays(join(folder, EXPECTED));
  const values = new Map(names("").map((name) => [name, array(name) as { shape: number[]; data: Float32Array }]));
  const paths = (readdirSync(folder, { recursive: true }) as string[]).filter((path) => {
    return path !== EXPECTED && statSync(join(folder, path)).isFile();
  });
  const blobs = paths.map((path) => ({ path, file: new Blob([readFileSync(join(folder, path))]) }));
  const checkpoint = await openCheckpoint(new BlobFileSet(folder, blobs));
  const language = paths.find((path) => /(^|\/)(decoder_model_merged|text)[^/]*\.onnx$/.test(path));
  if (!language) throw new Error(`${folder} has no ONNX text model`);
  const config = parseConfig(checkpoint.config);
  return { folder, gguf: { language }, config, ...countKept(checkpoint, values, new Set(values.keys())), remove() {} };
}

/** The weights with those that no scheme keeps rounded to bf16, as they are stored in this comparison; and how many of `asked` are which. */
function countKept(checkpoint: Checkpoint, values: ReferenceWeights, asked: ReadonlySet<string>) {
  const weights = new Map(values);
  let [kept, rounded] = [0, 0];
  for (const { sources, scheme } of weightSlots(parseConfig(checkpoint.config), checkpoint, "bf16")) {
    for (const { tensor } of sources) {
      const name = canonical(tensor);
      if (!asked.has(name)) continue;
      if (scheme !== "bf16") kept++;
      else {
        const { shape, data } = weights.get(name)!;
        weights.set(name, { shape, data: Float32Array.from(data, (v) => bf16ToF32(f32ToBf16(v))) });
        rounded++;
      }
    }
  }
  return { weights, kept, rounded };
}

export async function convertReference(folder: string, format: string): Promise<Converted> {
  const write: FormatWriter | undefined = FORMATS[format];
  if (!write) throw new Error(`no format named ${format}; there are ${Object.keys(FORMATS).join(", ")}`);
  const from = join(resolve(folder), "checkpoint");
  const arrays = openArrays(join(from, "model.safetensors"));
  const tensors = arrays.names("").map((name) => ({ name, ...arrays.array(name), dtype: "BF16" }));
  const others = readdirSync(from).filter((name) => !name.endsWith(".safetensors"));
  const texts = Object.fromEntries(others.map((name) => [name, readFileSync(join(from, name), "utf8")]));
  const { files, values, gguf } = write({ config: JSON.parse(texts["config.json"]!), tensors, texts });
  const weights = new Map(
    tensors.map(({ name, shape, data }) => [name, { shape, data: values.get(name) ?? (data as Float32Array) }]),
  );
  const to = mkdtempSync(join(tmpdir(), "converted-"));
  for (const [name, data] of Object.entries({ ...texts, ...files })) writeFileSync(join(to, name), data);
  const blobs = Object.entries(files).map(([path, data]) => ({ path, file: new Blob([data]) }));
  const checkpoint = await openCheckpoint(new BlobFileSet(format, blobs));
  const remove = () => rmSync(to, { recursive: true, force: true });
  const config = parseConfig(JSON.parse(texts["config.json"]!));
  const counted = countKept(checkpoint, weights, new Set(values.keys()));
  return { folder: to, ...(gguf ? { gguf } : {}), config, ...counted, remove };
}

/** The reference's name of a tensor, whichever way its writer names the two halves of the model. */
function canonical(name: string): string {
  return name.replace(/^language_model\.model\./, "model.language_model.").replace(/^vision_tower\./, "model.visual.");
}

/**
 * Converts the checkpoint of a folder written by make_reference.py, or takes a folder where that was done; runs cases of it through the app,
 * and compares the logits.
 */
export async function runFormatParity(
  folder: string,
  form: string | { converted: string },
  { only, onReport, ...device }: DeviceArgs & { only?: string[]; onReport?: (report: FormatReport) => void } = {},
): Promise<FormatReport[]> {
  const reference = openReference(resolve(folder));
  const names = only ?? Object.keys(reference.cases).filter((name) => reference.cases[name]!.frames === undefined);
  const format = typeof form === "string" ? form : basename(resolve(form.converted));
  const converted =
    typeof form === "string" ? await convertReference(folder, form) : await openConverted(resolve(form.converted));
  const folders = { "/reference/": reference.folder, "/converted/": converted.folder };
  const app = await openApp({ engineOnly: true, ...device, folders });
  try {
    await app.page.evaluate(
      async (place) => await (tabtune.engine as unknown as DebugApi).debugLoad({ ...place, kv: "f32" }),
      { base: `${app.origin}/converted/`, ...(converted.gguf ? { gguf: converted.gguf } : {}) },
    );
    const model = new ReferenceModel(converted.config, converted.weights);
    const reports: FormatReport[] = [];
    for (const name of names) {
      const request = debugRequest(reference.cases[name]!, `${app.origin}/reference/`);
      const forward: DebugForward = await app.page.evaluate(
        async (request) => await (tabtune.engine as unknown as DebugApi).debugForward(request),
        request,
      );
      const grids = forward.grid.map(([t, h, w]) => [t!, h!, w!] as const);
      const seen = grids.length > 0 ? model.vision(forward.pixelValues, grids) : undefined;
      const { logits } = model.prefill(forward.inputIds, grids, seen);
      const error = relativeL2(forward.logits, logits.subarray(logits.length - forward.logits.length));
      const { kept, rounded } = converted;
      const report = { format, case: name, pass: error < TOLERANCE, logits: error, kept, rounded };
      onReport?.(report);
      reports.push(report);
    }
    return reports;
  } finally {
    await app.close();
    converted.remove();
  }
}
