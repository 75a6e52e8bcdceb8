import { newVersion } from "../state.ts";

/** A page that stays open asks this often whether there is a newer one. */
const ASK_EVERY = 3_600_000;

let registration: ServiceWorkerRegistration | undefined;

/**
 * Keeps the page usable without a network, and says when a newer version waits. The service worker that holds it takes over
 * only when the visitor reloads: an open page goes on with the files that it was made of.
 */
export async function watchForUpdates(): Promise<void> {
  const { serviceWorker } = navigator;
  if (!serviceWorker) return;
  try {
    registration = await serviceWorker.register("sw.js");
  } catch {
    return;
  }
  // Undefined where service workers are blocked without an error.
  if (!registration) return;
  const { waiting } = registration;
  if (waiting) void consider(waiting);
  registration.addEventListener("updatefound", () => {
    const worker = registration?.installing;
    worker?.addEventListener("statechange", () => {
      if (worker.state === "installed" && serviceWorker.controller) void consider(worker);
    });
  });
  // Another tab may have let the new version in.
  serviceWorker.addEventListener("controllerchange", () => {
    if (serviceWorker.controller) void consider(serviceWorker.controller);
  });
  let asked = Date.now();
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState !== "visible" || Date.now() - asked < ASK_EVERY) return;
    asked = Date.now();
    void registration?.update().catch(() => {});
  });
}

/** A page that came from the network may be the new version already; then the worker may take over at once. */
async function consider(worker: ServiceWorker): Promise<void> {
  if (await holdsThisPage(worker)) {
    if (worker.state === "installed") worker.postMessage({ kind: "take over" });
  } else newVersion.value = true;
}

function holdsThisPage(worker: ServiceWorker): Promise<boolean> {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.onmessage = (event) => {
      port1.close();
      resolve(event.data === true);
    };
    worker.postMessage({ kind: "holds", address: import.meta.url }, [port2]);
  });
}

/** Lets the new version in and shows it. */
export function reloadIntoUpdate(): void {
  const waiting = registration?.waiting;
  if (!waiting) {
    location.reload();
    return;
  }
  navigator.serviceWorker.addEventListener("controllerchange", () => location.reload(), { once: true });
  waiting.postMessage({ kind: "take over" });
}
