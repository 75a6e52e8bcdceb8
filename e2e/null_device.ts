/** Kept for as long as the process lives: Dawn crashes once such an object is collected while its devices live. */
const entries: GPU[] = [];

/**
 * Dawn in Node without a GPU: it allocates, maps and compiles, but computes nothing. Undefined where the optional package `webgpu` has no
 * binary.
 * @param options  of Dawn's, as "enable-dawn-features=allow_unsafe_apis"
 */
export async function nullDevice(...options: string[]): Promise<GPU | undefined> {
  try {
    const { create, globals } = await import("webgpu");
    Object.assign(globalThis, globals);
    const gpu = create(["backend=null", ...options]);
    entries.push(gpu);
    return gpu;
  } catch {
    return undefined;
  }
}
