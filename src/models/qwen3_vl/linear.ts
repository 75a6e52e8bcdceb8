import type { Program, Slice } from "../../gpu/index.ts";
import {
  canAddPairs,
  canGlu,
  dropout,
  gemm,
  gemmScratchBytes,
  type MatmulPair,
  type Matrix,
  matmul,
  matmulBackward,
  rmsNorm,
  swiglu,
} from "../../kernels/index.ts";

/** The pairs of one matrix. Their A lie stacked at the start of the buffers, [r, cols] in all, so that x is read once for all of them. */
export interface LoraPairs {
  pairs: readonly MatmulPair[];
  /** Sum of the ranks. */
  r: number;
  /** A of all pairs, then each B, f32. */
  values: Slice;
  /** As values; training adds to it. */
  gradients?: Slice;
  scratch: LoraScratch;
}

/** Buffers that all matrices of a model take turns with. */
export interface LoraScratch {
  /** x Aᵀ and its gradient, [rows, r] f32. */
  u: Slice;
  du?: Slice;
  /** Parts of split products. */
  partial: Slice;
  /** For products with one row: `handoverBytes` of the largest r. */
  handover: Slice;
}

/** Dropout before every A, while training. */
export interface Dropout {
  rate: number;
  /** [1] u32. */
  seed: Slice;
  /** x after dropout, [rows, widest input] f32. */
  dropped: Slice;
}

export interface LinearForward {
  /** [m, cols] f32. */
  x: Slice;
  /** [m, rows] f32. */
  y: Slice;
  m: number;
  accumulate?: boolean;
  activation?: "gelu_tanh" | "gelu_erf";
  dropout?: Dropout | undefined;
}

export interface NormedForward {
  /** [m, cols] f32. */
  x: Slice;
  /** [m, rows] f32, or [m, rows / 2] when gated. */
  y: Slice;
  m: number;
  /** [cols] f32, of the RMSNorm in front. */
  gain: Slice;
  eps: number;
  /** Scratch [m, cols] f32. */
  normed: Slice;
  /** Scratch [m, rows] f32; when given, y = silu(lower half) ⊙ upper half. */
  gateUp?: Slice;
}

export interface LinearBackward {
  /** What the forward pass read. */
  x: Slice;
  /** [m, rows] f32. */
  dy: Slice;
  /** [m, cols] f32; left out where nothing below needs it. */
  dx?: Slice | undefined;
  m: number;
  /** dx += …. */
  accumulate?: boolean;
  dropout?: Dropout | undefined;
}

/**
 * A linear layer as chat and training both use it: a frozen weight in any scheme, and LoRA pairs while an adapter is on.
 * Without pairs it records what the bare weight needs and nothing else, so that switching off gives back the base bit for bit.
 */
export class Linear {
  readonly weight: Matrix;
  readonly bias: Slice | undefined;
  lora: LoraPairs | undefined;
  /** Tells its dropout masks from other layers'. */
  readonly stream: number;

  constructor(weight: Matrix, bias: Slice | undefined, stream: number) {
    this.weight = weight;
    this.bias = bias;
    this.stream = stream;
  }

  /** Records y = act(x Wᵀ + bias + Σ scale · (x Aᵀ) Bᵀ), or y +=. */
  forward(program: Program, o: LinearForward): void {
    const { x, y, m, activation } = o;
    const base = { x, y, m, weight: this.weight, ...(this.bias ? { bias: this.bias } : {}) };
    const { lora } = this;
    if (!lora) {
      const accumulate = o.accumulate ?? false;
      matmul(program, { ...base, accumulate, ...(activation ? { activation } : {}) });
      return;
    }
    if (this.#fusesPairs(m, o)) {
      this.#single(program, lora, { x, y, accumulate: o.accumulate ?? false });
      return;
    }
    const { rows } = this.weight;
    const addPairs = (accumulate: boolean) => {
      this.#down(program, lora, x, m, o.dropout);
      for (const pair of lora.pairs) {
        gemm(program, {
          a: { slice: lora.scratch.u, stride: lora.r, offset: pair.aRow },
          b: { slice: lora.values, stride: pair.r, offset: pair.b, transposed: true },
          c: { slice: y, stride: rows, offset: pair.row0 },
          m,
          n: pair.rows,
          k: pair.r,
          scale: pair.scale,
          accumulate,
        });
      }
    };
    if (activation) {
      // The pairs come first, so that the product that ends the sum can also apply the activation.
      addPairs(false);
      matmul(program, { ...base, accumulate: true, activation });
      return;
    }
    matmul(program, { ...base, accumulate: o.accumulate ?? false });
    addPairs(true);
  }

  /** Records the product behind an RMSNorm, gated where asked. A single row takes one dispatch for all of it. */
  forwardNormed(program: Program, o: NormedForward): void {
    const { x, y, m, gain, eps, normed, gateUp } = o;
    const { rows, cols } = this.weight;
    if (m === 1 && !this.bias && (!gateUp || canGlu(this.weight))) {
      const norm = { gain, eps };
      const glu = gateUp !== undefined;
      if (!this.lora) {
        matmul(program, { x, y, m, weight: this.weight, norm, glu });
        return;
      }
      if (this.#fusesPairs(m, {})) {
        this.#single(program, this.lora, { x, y, norm, glu });
        return;
      }
    }
    rmsNorm(program, x, gain, normed, { rows: m, c: cols, eps });
    this.forward(program, { x: normed, y: gateUp ?? y, m });
    if (gateUp) swiglu(program, gateUp, y, { rows: m, n: rows / 2 });
  }

  /** True when one row and all pairs go through a single product. */
  #fusesPairs(m: number, { activation, dropout }: Pick<LinearForward, "activation" | "dropout">): boolean {
    return m === 1 && !activation && !dropout && this.lora !== undefined && canAddPairs(this.lora.pairs, this.lora.r);
  }

  /** One row with its pairs in one dispatch. */
  #single(
    program: Program,
    { scratch, values, r, pairs }: LoraPairs,
    o: { x: Slice; y: Slice; accumulate?: boolean; norm?: { gain: Slice; eps: number }; glu?: boolean },
  ): void {
    const lora = { values, rank: r, pairs, handover: scratch.handover };
    matmul(program, { ...o, m: 1, weight: this.weight, ...(this.bias ? { bias: this.bias } : {}), lora });
  }

  /** u = x Aᵀ for all pairs at once; returns what stood for x. */
  #down(program: Program, lora: LoraPairs, x: Slice, m: number, drop: Dropout | undefined): Slice {
    const { cols } = this.weight;
    if (drop) {
      const { rate, seed, dropped } = drop;
      dropout(program, { x, y: dropped, count: m * cols, rate, seed, stream: this.stream });
    }
    const input = drop?.dropped ?? x;
    gemm(program, {
      a: { slice: input, stride: cols },
      b: { slice: lora.values, stride: cols, transposed: true },
      c: { slice: lora.scratch.u, stride: lora.r },
      m,
      n: lora.r,
      k: cols,
      partial: lora.scratch.partial,
    });
    return input;
  }

  /** Records dx and adds the gradients of the pairs; x Aᵀ is made again. Source of the formulas: qwen3-vl.md §9.7. */
  backward(program: Program, o: LinearBackward): void {
    const { x, dy, dx, m } = o;
    const { rows, cols } = this.weight;
    if (dx) matmulBackward(program, { dy, dx, m, weight: this.weight, accumulate: o.accumulate ?? false });
    const { lora } = this;
    if (!lora) return;
    const { values, gradients, scratch, r } = lora;
    if (!gradients || !scratch.du) throw new Error(`${this.weight.label}: its LoRA pairs have no gradients`);
    const input = this.#down(program, lora, x, m, o.dropout);
    for (const { row0, rows: n, r: rank, scale, aRow, b } of lora.pairs) {
      // dB += s · dYᵀ u
      gemm(program, {
        a: { slice: dy, stride: rows, offset: row0, transposed: true },
        b: { slice: scratch.u, stride: r, offset: aRow },
        c: { slice: gradients, stride: rank, offset: b },
        m: n,
        n: rank,
        k: m,
        scale,
        accumulate: true,
        partial: scratch.partial,
      });
      // du = s · dY B
      gemm(program, {
        a: { slice: dy, stride: rows, offset: row0 },
        b: { slice: values, stride: rank, offset: b },
        c: { slice: scratch.du, stride: r, offset: aRow },
        m,
        n: rank,
        k: n,
        scale,
        partial: scratch.partial,
      });
    }
    // dA += duᵀ x
    gemm(program, {
      a: { slice: scratch.du, stride: r, transposed: true },
      b: { slice: input, stride: cols },
      c: { slice: gradients, stride: cols },
      m: r,
      n: cols,
      k: m,
      accumulate: true,
      partial: scratch.partial,
    });
    if (!dx) return;
    // dX += du A, through the same mask where x went through one.
    gemm(program, {
      a: { slice: scratch.du, stride: r },
      b: { slice: values, stride: cols },
      c: { slice: o.dropout?.dropped ?? dx, stride: cols },
      m,
      n: cols,
      k: r,
      accumulate: !o.dropout,
    });
    if (o.dropout) {
      const { rate, seed, dropped } = o.dropout;
      dropout(program, { x: dropped, y: dx, count: m * cols, rate, seed, stream: this.stream, add: true });
    }
  }
}

/** Bytes of `partial` that the pairs of one matrix need for up to m rows. */
export function loraPartialBytes(
  { cols }: { cols: number },
  r: number,
  pairs: readonly MatmulPair[],
  m: number,
): number {
  const ofA = [gemmScratchBytes(m, r, cols), gemmScratchBytes(r, cols, m)];
  const ofB = pairs.flatMap((p) => [gemmScratchBytes(m, p.r, p.rows), gemmScratchBytes(p.rows, p.r, m)]);
  return Math.max(...ofA, ...ofB);
}
