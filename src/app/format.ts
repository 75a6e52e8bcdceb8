/** Numbers as people read them. All take plain units: bytes, seconds, milliseconds. */

const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** Decimal units, as browsers and disks count: 1,500,000 → "1.5 MB". */
export function formatBytes(bytes: number): string {
  if (!Number.isFinite(bytes)) return "unlimited";
  let value = Math.max(0, bytes);
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit++;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${trimZeros(value.toFixed(digits))} ${UNITS[unit]}`;
}

/** Bytes per second; nothing is said about a speed that is not known yet. */
export function formatSpeed(bytesPerSecond: number): string {
  return Number.isFinite(bytesPerSecond) && bytesPerSecond > 0 ? `${formatBytes(bytesPerSecond)}/s` : "";
}

/** Time left, rounded so that it does not flicker: "8 s", "1 min 20 s", "2 h 5 min". */
export function formatTimeLeft(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return "";
  if (seconds < 60) return `${Math.max(1, Math.ceil(seconds))} s`;
  if (seconds < 3600) {
    const whole = Math.ceil(seconds / 5) * 5;
    const rest = whole % 60;
    return rest ? `${Math.floor(whole / 60)} min ${rest} s` : `${whole / 60} min`;
  }
  const minutes = Math.ceil(seconds / 60);
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
}

/** A duration: "85 ms", "1.2 s", "2 min 5 s". */
export function formatDuration(milliseconds: number): string {
  if (!Number.isFinite(milliseconds)) return "";
  if (milliseconds < 999.5) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 59_950) return `${(milliseconds / 1000).toFixed(milliseconds < 9_950 ? 1 : 0)} s`;
  const seconds = Math.round(milliseconds / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** Tokens per second. */
export function formatRate(perSecond: number): string {
  if (!Number.isFinite(perSecond) || perSecond <= 0) return "–";
  return `${perSecond >= 99.5 ? formatCount(Math.round(perSecond)) : perSecond.toFixed(perSecond >= 9.95 ? 0 : 1)} tok/s`;
}

/** Whole numbers with thousands apart: 12,345. */
export function formatCount(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

/** Parameters: 4.4 B, 11 M. */
export function formatParameters(parameters: number): string {
  if (parameters >= 1e9) return `${trimZeros((parameters / 1e9).toFixed(1))} B`;
  if (parameters >= 1e6) return `${trimZeros((parameters / 1e6).toFixed(parameters >= 1e7 ? 0 : 1))} M`;
  return formatCount(parameters);
}

/** A day for lists: "Today", "Yesterday", else the date. */
export function formatDay(time: number, now = Date.now()): string {
  const day = (t: number) => new Date(t).setHours(0, 0, 0, 0);
  const apart = Math.round((day(now) - day(time)) / 86_400_000);
  if (apart <= 0) return "Today";
  if (apart === 1) return "Yesterday";
  if (apart < 7) return "Last 7 days";
  return new Date(time).toLocaleDateString("en-GB", { month: "long", year: "numeric" });
}

/** How long ago something was, roughly: "just now", "5 min ago", "3 h ago", "yesterday", "12 days ago". */
export function formatAgo(time: number, now = Date.now()): string {
  const minutes = Math.max(0, Math.floor((now - time) / 60_000));
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h ago`;
  const days = Math.floor(minutes / (24 * 60));
  return days === 1 ? "yesterday" : `${days} days ago`;
}

function trimZeros(text: string): string {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}
