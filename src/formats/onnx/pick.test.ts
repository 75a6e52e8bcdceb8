import { describe, expect, test } from "vitest";
import { BlobFileSet } from "../blob_files.ts";
import { pickOnnx } from "./pick.ts";

const place = (paths: string[]) =>
  new BlobFileSet(
    "export",
    paths.map((path) => ({ path, file: new Blob(["x"]) })),
  );

describe("the files of an export", () => {
  const pick = async (paths: string[], wanted?: string) => await pickOnnx(place(paths), paths, wanted);
  const all = ["decoder_model_merged", "embed_tokens", "vision_encoder"].flatMap((name) =>
    ["", "_fp16", "_q4", "_q4f16", "_quantized", "_int8", "_bnb4"].map((precision) => `onnx/${name}${precision}.onnx`),
  );

  test("are those in 4 bits, with a note, or those that somebody chose", async () => {
    const { paths, notes, folder } = await pick(all);
    expect(paths).toEqual([
      "onnx/decoder_model_merged_q4.onnx",
      "onnx/embed_tokens_q4.onnx",
      "onnx/vision_encoder_q4.onnx",
    ]);
    expect([folder, notes]).toEqual(["onnx/", [expect.stringMatching(/Of 12 ONNX files, these are taken/)]]);
    const half = await pick(all, "decoder_model_merged_q4f16.onnx");
    expect(half.paths[2]).toBe("onnx/vision_encoder_q4f16.onnx");
    expect((await pick([...all.filter((path) => !path.includes("vision_encoder_q4")), "x.onnx"])).paths[2]).toBe(
      "onnx/vision_encoder_fp16.onnx",
    );
  });

  test("of onnxruntime-genai", async () => {
    expect((await pick(["vision.onnx", "text.onnx", "embedding.onnx"])).paths).toEqual([
      "text.onnx",
      "embedding.onnx",
      "vision.onnx",
    ]);
  });

  test("that are not clear or not read are refused", async () => {
    await expect(pick(["cpu/model.onnx", "gpu/model.onnx"])).rejects.toThrow(
      /expected one ONNX export, found several, in cpu\/, gpu\//,
    );
    await expect(pick(["onnx/decoder_model_merged_int8.onnx"])).rejects.toThrow(
      /found onnx\/decoder_model_merged_int8\.onnx/,
    );
    await expect(pick(all, "model_q4.onnx")).rejects.toThrow(/expected model_q4\.onnx/);
  });
});
