import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { serve } from "./serve.mjs";

const folder = mkdtempSync(join(tmpdir(), "serve-"));
let site: Awaited<ReturnType<typeof serve>>;
beforeAll(async () => {
  mkdirSync(join(folder, "app"));
  writeFileSync(join(folder, "secret.txt"), "secret");
  writeFileSync(
    join(folder, "app/index.html"),
    `<meta http-equiv="Content-Security-Policy"\n  content="default-src 'self';\n  img-src blob:">`,
  );
  writeFileSync(join(folder, "app/ten.bin"), "0123456789");
  writeFileSync(join(folder, "app/empty.bin"), "");
  site = await serve({ "/": join(folder, "app") });
});
afterAll(async () => {
  await site.close();
  rmSync(folder, { recursive: true });
});

const get = (path: string, headers: Record<string, string> = {}) => fetch(`${site.url}${path}`, { headers });

it("sends whole files with isolation headers and the page's own policy", async () => {
  const response = await get("/ten.bin");
  expect(response.status).toBe(200);
  expect(await response.text()).toBe("0123456789");
  expect(response.headers.get("cross-origin-opener-policy")).toBe("same-origin");
  expect(response.headers.get("cross-origin-embedder-policy")).toBe("require-corp");
  expect(response.headers.get("content-security-policy")).toBe("default-src 'self'; img-src blob:");
  expect((await get("/")).headers.get("content-type")).toMatch(/text\/html/);
  expect((await get("/empty.bin")).status).toBe(200);
});

it.each([
  ["bytes=2-4", "234", "bytes 2-4/10"],
  ["bytes=7-", "789", "bytes 7-9/10"],
  ["bytes=-3", "789", "bytes 7-9/10"],
  ["bytes=8-99", "89", "bytes 8-9/10"],
])("answers %s", async (range, text, contentRange) => {
  const response = await get("/ten.bin", { range });
  expect(response.status).toBe(206);
  expect(response.headers.get("content-range")).toBe(contentRange);
  expect(await response.text()).toBe(text);
});

it("refuses what it cannot give", async () => {
  const outside = await get("/ten.bin", { range: "bytes=10-" });
  expect([outside.status, outside.headers.get("content-range")]).toEqual([416, "bytes */10"]);
  expect((await get("/none.bin")).status).toBe(404);
  expect((await get("/%2e%2e/secret.txt")).status).toBe(404);
  expect((await get("/%2e%2e%2fsecret.txt")).status).toBe(404);
  expect((await get("/%zz")).status).toBe(400);
  expect((await fetch(`${site.url}/ten.bin`, { method: "PUT" })).status).toBe(405);
  // A client that writes ".." as it is, which fetch would resolve.
  const raw = await new Promise<string>((resolve) => {
    const socket = connect(site.port, "127.0.0.1", () =>
      socket.write("GET /../secret.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    );
    let text = "";
    socket.on("data", (bytes) => {
      text += bytes;
    });
    socket.on("end", () => resolve(text));
  });
  expect(raw).not.toContain("secret");
});

it("takes the next port when one is taken", async () => {
  const second = await serve({ "/": folder }, { port: site.port, attempts: 20 });
  expect(second.port).toBeGreaterThan(site.port);
  await second.close();
  await expect(serve({ "/": folder }, { port: site.port })).rejects.toThrow(/EADDRINUSE/);
});
