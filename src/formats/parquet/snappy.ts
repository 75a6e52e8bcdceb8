/**
 * Unpacks a raw Snappy block of exactly `length` bytes. The library's own decoder runs for ever on some damaged blocks.
 * Throws an Error for anything else. Source: the format description of google/snappy.
 */
export function unpackSnappy(input: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(length);
  let at = 0;
  let done = 0;
  /** Little-endian number of `n` bytes. */
  const number = (n: number): number => {
    if (at + n > input.length) throw new Error("a Snappy block ends too early");
    let value = 0;
    for (let i = 0; i < n; i++) value += input[at++]! * 2 ** (8 * i);
    return value;
  };
  while (number(1) >= 0x80); // The length again, as a varint.
  while (at < input.length) {
    const tag = number(1);
    const kind = tag & 3;
    if (kind === 0) {
      const short = tag >> 2;
      const count = (short < 60 ? short : number(short - 59)) + 1;
      if (count > input.length - at || count > length - done) throw new Error("a Snappy block holds too many bytes");
      out.set(input.subarray(at, at + count), done);
      at += count;
      done += count;
      continue;
    }
    const count = kind === 1 ? ((tag >> 2) & 7) + 4 : (tag >> 2) + 1;
    const back = kind === 1 ? (tag >> 5) * 256 + number(1) : number(kind === 2 ? 2 : 4);
    if (back === 0 || back > done || count > length - done) throw new Error("a Snappy block copies from nowhere");
    // Byte by byte, since a copy may overlap itself.
    for (const end = done + count; done < end; done++) out[done] = out[done - back]!;
  }
  if (done !== length) throw new Error(`a Snappy block holds ${done} bytes, expected ${length}`);
  return out;
}
