import { type SavedState, SHA256 } from "@stablelib/sha256";

/** A SHA-256 that is not finished: plain data that can be stored and gone on with. */
export type HashState = SavedState;

/** The state after `bytes` more. Without a state, after the first bytes. */
export function hashOnward(state: HashState | undefined, bytes: Uint8Array): HashState {
  const hash = new SHA256();
  if (state) hash.restoreState(state);
  return hash.update(bytes).saveState();
}

/** Lower-case hex of the hash of all bytes so far. */
export function hashHex(state: HashState | undefined): string {
  const hash = new SHA256();
  if (state) hash.restoreState(state);
  return Array.from(hash.digest(), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
