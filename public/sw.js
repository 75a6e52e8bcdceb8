// Keeps the app and the demo model for use without a network. The build replaces the next two lines: every file of the app
// with its hash, and a version that changes with any of them, which is how the browser notices a new one.
const FILES = {};
const VERSION = "unbuilt";
const APP = `tabtune-app-${VERSION}`;
const MODELS = "tabtune-models";
const scope = new URL(self.registration.scope);

const isModel = (path) => path.startsWith("models/");
const pathOf = (url) => decodeURIComponent(url.pathname.slice(scope.pathname.length)) || "index.html";
/** Where a file is kept. A model's address carries its hash, so that a new app version does not fetch an unchanged model again. */
const keyOf = (path) => new URL(isModel(path) ? `${path}?kept=${FILES[path]}` : path, scope).href;

async function keep(path) {
  const cache = await caches.open(isModel(path) ? MODELS : APP);
  if (await cache.match(keyOf(path))) return;
  const response = await fetch(new URL(path, scope), { cache: "no-cache" });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  await cache.put(keyOf(path), response);
}

self.addEventListener("install", (event) => {
  const shell = Object.keys(FILES).filter((path) => !isModel(path));
  event.waitUntil(Promise.all(shell.map(keep)));
});

// A new version waits until the page lets it in (src/app/actions/update.ts): an open page needs the files it was made of.
self.addEventListener("message", ({ data, ports }) => {
  if (data?.kind === "take over") self.skipWaiting();
  if (data?.kind === "holds") ports[0]?.postMessage(pathOf(new URL(data.address)) in FILES);
});

async function activate() {
  for (const name of await caches.keys())
    if (name.startsWith("tabtune-app-") && name !== APP) await caches.delete(name);
  const models = Object.keys(FILES).filter(isModel);
  const cache = await caches.open(MODELS);
  const wanted = new Set(models.map(keyOf));
  for (const request of await cache.keys()) if (!wanted.has(request.url)) await cache.delete(request);
  await self.clients.claim();
  return models;
}

// The demo model follows after the page is up. Failing is no harm: it is then read from the network when it is asked for.
self.addEventListener("activate", (event) => {
  event.waitUntil(activate().then((models) => Promise.all(models.map(keep)).catch(() => undefined)));
});

/** Cuts a kept answer down to the range that was asked for. */
async function ranged(request, response) {
  const range = request.headers.get("range")?.match(/^bytes=(\d+)-(\d*)$/);
  if (!range) return response;
  const blob = await response.blob();
  const start = Number(range[1]);
  const end = Math.min(range[2] ? Number(range[2]) : blob.size - 1, blob.size - 1);
  const headers = new Headers(response.headers);
  if (start > end) {
    headers.set("Content-Range", `bytes */${blob.size}`);
    return new Response(null, { status: 416, headers });
  }
  headers.set("Content-Range", `bytes ${start}-${end}/${blob.size}`);
  headers.set("Content-Length", String(end - start + 1));
  return new Response(blob.slice(start, end + 1), { status: 206, headers });
}

async function answer(request, path) {
  const cache = await caches.open(isModel(path) ? MODELS : APP);
  // The page itself comes from the network when there is one, so that a new version shows at the first reload.
  if (path === "index.html") {
    try {
      const fresh = await fetch(request);
      if (fresh.ok) return fresh;
    } catch {}
  }
  const kept = await cache.match(keyOf(path));
  return kept ? ranged(request, kept) : fetch(request);
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== scope.origin || !url.pathname.startsWith(scope.pathname)) return;
  const path = pathOf(url);
  if (path in FILES) event.respondWith(answer(request, path));
});
