import codebook from "../../shaders/lib/codebook.wgsl?raw";
import codebookConstant from "../../shaders/lib/codebook_constant.wgsl?raw";
import codebookShared from "../../shaders/lib/codebook_shared.wgsl?raw";
import rawBf16 from "../../shaders/lib/raw_bf16.wgsl?raw";
import rawQ4 from "../../shaders/lib/raw_q4.wgsl?raw";
import raw8 from "../../shaders/lib/raw8.wgsl?raw";
import raw8Q4 from "../../shaders/lib/raw8_q4.wgsl?raw";
import unitBf16 from "../../shaders/lib/unit_bf16.wgsl?raw";
import unitQ4 from "../../shaders/lib/unit_q4.wgsl?raw";
import weightBf16 from "../../shaders/lib/weight_bf16.wgsl?raw";
import grouped from "../../shaders/lib/weight_grouped.wgsl?raw";
import weightQ4 from "../../shaders/lib/weight_q4.wgsl?raw";
import { type CodeKind, grouping, type MetaKind, metaWords, type SlotScheme } from "../formats/index.ts";
import { joined } from "./source.ts";

/** A scheme that matrices are stored in. */
export type MatrixScheme = Exclude<SlotScheme, "f32">;

/** The heads of a shader that open the weights of one scheme, and the constants that they need. */
export interface WeightLibrary {
  constants: Record<string, number>;
  /** Four weights opened at once: `weight4`. */
  weight: string;
  /** The same in two steps, for tiles: `raw4`, `open4`. */
  raw: string;
  /** Eight as an octet, after `raw` and octet_*.wgsl: `Raw8`, `raw8`, `open8`. */
  raw8: string;
  /** Sixteen against a row of x: `Unit`, `load_unit`, `unit_dot`. */
  unit: string;
}

/** As numbered in weight_grouped.wgsl. */
const CODES: Record<CodeKind, number> = { unsigned: 0, signed: 1, nf4: 2, fp4: 3, e4m3: 4 };
const METAS: Record<Exclude<MetaKind, "f16_pair">, number> = { bf16_pair: 0, zero: 1, f32_pair: 2, f32: 3 };

/** What opens the weights of a scheme. What we quantize to ourselves has files of its own, which are faster. */
export function weightLibrary(scheme: MatrixScheme): WeightLibrary {
  if (scheme === "bf16") return { constants: {}, weight: weightBf16, raw: rawBf16, raw8, unit: unitBf16 };
  const { bits, group, code, meta } = grouping(scheme)!;
  if (meta === "f16_pair") {
    return { constants: { GROUP: group }, weight: weightQ4, raw: rawQ4, raw8: raw8Q4, unit: unitQ4 };
  }
  const constants = { GROUP: group, BITS: bits, CODE: CODES[code], META: METAS[meta], META_WORDS: metaWords(meta) };
  const opened = joined(codebook, codebookConstant, grouped);
  // Decoding opens every weight for one product, and has shared memory to spare.
  const unit = code === "nf4" || code === "fp4" ? joined(codebook, codebookShared, grouped) : opened;
  return { constants, weight: opened, raw: opened, raw8, unit };
}
