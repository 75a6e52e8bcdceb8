// Gets the other runtimes that `npm run bench -- --peers` measures: fixed versions, a few files of each, outside of node_modules.
// Unpacked whole they are 155 MB, without what they depend on; `npm start` shall not wait for that.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

/** @type {{ name: string, version: string, sha512: string, files: string[] }[]} */
const PACKAGES = [
  {
    name: "onnxruntime-web",
    version: "1.30.0",
    sha512: "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    // The build that the browser itself suspends (JSPI). The default one, by Asyncify, computes the same and is 1.6 times as large.
    files: ["ort.jspi.min.mjs", "ort-wasm-simd-threaded.jspi.mjs", "ort-wasm-simd-threaded.jspi.wasm"],
  },
  {
    name: "@huggingface/transformers",
    version: "4.3.2",
    sha512: "V3+dqf3iWlRYJ9I9GreM3zGQd0lAXnnoPeddmkOQYWAEE4l/+Fi6p7tx/qVUJlKQgLXGim2W76rTOzz+eC0i7g==",
    files: ["transformers.web.min.js"],
  },
];

/** Version of each runtime, by its package's name. */
export const PEER_VERSIONS = Object.fromEntries(PACKAGES.map(({ name, version }) => [name, version]));

/** @param {string} command @param {string[]} args @param {string} cwd */
function run(command, args, cwd) {
  const { status, stdout } = spawnSync(command, args, {
    cwd,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
    shell: process.platform === "win32",
  });
  return status === 0 ? stdout.trim() : undefined;
}

/**
 * Puts the files of all peers into `folder`, unless they are there. The network is needed once.
 * @param {string} folder
 */
export function ensurePeers(folder) {
  for (const { name, version, sha512, files } of PACKAGES) {
    const to = join(folder, `${name.replace("/", "-")}-${version}`);
    if (files.every((file) => existsSync(join(to, file)))) continue;
    const work = mkdtempSync(join(tmpdir(), "peers-"));
    try {
      const packed = run("npm", ["pack", `${name}@${version}`, "--silent"], work);
      if (!packed)
        throw new Error(
          `${name}@${version} could not be fetched with npm pack. Connect to the network, or copy ${to} from another machine.`,
        );
      const archive = join(work, basename(packed));
      const found = createHash("sha512").update(readFileSync(archive)).digest("base64");
      if (found !== sha512)
        throw new Error(
          `${name}@${version} is not the package that was expected: SHA-512 ${found} instead of ${sha512}.`,
        );
      const inside = files.map((file) => `package/dist/${file}`);
      if (run("tar", ["-xzf", basename(archive), ...inside], work) === undefined)
        throw new Error(`${archive} could not be unpacked: tar is missing, or it lacks ${inside.join(", ")}.`);
      mkdirSync(to, { recursive: true });
      for (const file of files) copyFileSync(join(work, "package/dist", file), join(to, file));
    } finally {
      rmSync(work, { recursive: true });
    }
  }
}
