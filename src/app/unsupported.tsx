import type { Capabilities } from "../api/index.ts";
import { Icon } from "./components/icons.tsx";

type Missing = Extract<Capabilities, { ok: false }>;

const HEADLINES: Record<Missing["reason"], string> = {
  "no-webgpu": "This browser has no WebGPU",
  "no-adapter": "The browser found no usable GPU",
  limits: "This GPU offers too little",
};

const BROWSERS: { name: string; test: RegExp; not?: RegExp; steps: string[] }[] = [
  {
    name: "Chrome and Edge",
    test: /Chrom|Edg/,
    steps: [
      "WebGPU is on from version 113 on Windows, macOS and ChromeOS, and from 121 on Android 12 or later. Update the browser.",
      "Open chrome://gpu (edge://gpu) and look for WebGPU. If it says disabled, turn on hardware acceleration in the browser's settings under System.",
      "On Linux, start it with --enable-unsafe-webgpu --enable-features=Vulkan, or turn on both at chrome://flags, and install the Vulkan driver of your GPU.",
    ],
  },
  {
    name: "Safari",
    test: /Safari/,
    not: /Chrom|Edg/,
    steps: [
      "WebGPU is on from Safari 26 (macOS Tahoe 26, iOS 26, iPadOS 26). Update the system.",
      "In earlier versions: Settings › Apps › Safari › Advanced › Feature Flags › WebGPU.",
    ],
  },
  {
    name: "Firefox",
    test: /Firefox/,
    steps: [
      "WebGPU is on from version 141 on Windows, and from 145 on macOS 26 with Apple silicon. Update the browser.",
      "Elsewhere use Firefox Nightly, open about:config and set dom.webgpu.enabled to true.",
    ],
  },
];

/** The whole page when the GPU cannot be used: what is missing and what to do about it. */
export function Unsupported({ missing }: { missing: Missing }) {
  const agent = navigator.userAgent;
  const mine = (b: (typeof BROWSERS)[number]) => b.test.test(agent) && !(b.not?.test(agent) ?? false);
  const sorted = [...BROWSERS].sort((a, b) => Number(mine(b)) - Number(mine(a)));
  return (
    <main class="unsupported" id="main">
      <h1>
        <Icon name="warning" />
        {HEADLINES[missing.reason]}
      </h1>
      <p>
        TabTune runs a vision-language model on your own GPU. For that the browser must offer WebGPU, and the GPU enough
        memory.
      </p>
      <div class="card">
        <p>{missing.remedy}</p>
        <p class="hint">Found: {missing.found}</p>
      </div>
      {missing.reason === "no-webgpu" && !isSecureContext && (
        <p class="model-note">
          This page was opened over plain http. Browsers offer WebGPU only over https and on localhost: open it at one
          of these.
        </p>
      )}
      {sorted.map((browser) => (
        <section key={browser.name}>
          <h2>
            {browser.name}
            {mine(browser) && <span class="badge">you are here</span>}
          </h2>
          <ul>
            {browser.steps.map((step) => (
              <li key={step}>{step}</li>
            ))}
          </ul>
        </section>
      ))}
      <section>
        <h2>All browsers</h2>
        <ul>
          <li>Update the driver of your GPU, then restart the browser.</li>
          <li>Close other tabs and programs that use the GPU if it is short of memory.</li>
          <li>In a virtual machine or over remote desktop there is often no GPU at all.</li>
        </ul>
      </section>
      <button type="button" class="primary" onClick={() => location.reload()}>
        Try again
      </button>
    </main>
  );
}
