/** Numbers as a person reads them. */

/** A bit rate with its unit. */
export function bits(perSecond: number): string {
  if (perSecond >= 1e6) return `${(perSecond / 1e6).toFixed(1)} Mbit/s`;
  return `${Math.round(perSecond / 1e3)} kbit/s`;
}

/** Milliseconds, however many: gaps are compared. */
export function milliseconds(ms: number): string {
  return `${Math.round(ms)} ms`;
}

/** A duration: milliseconds below two seconds, seconds above, minutes from two on. */
export function duration(ms: number): string {
  if (Math.round(ms) < 2_000) return milliseconds(ms);
  return ms < 120_000 ? `${(ms / 1_000).toFixed(1)} s` : `${Math.floor(ms / 60_000)} min`;
}

/** A share of one, as a percentage. */
export function percent(share: number): string {
  const value = share * 100;
  return `${value > 0 && value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}

/** The time of day, to the tenth of a second: failovers are shorter than a second. */
export function clock(at: Date): string {
  const two = (value: number) => String(value).padStart(2, "0");
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${Math.floor(at.getMilliseconds() / 100)}`;
}

/** A count and its noun: `1 user`, `2 users`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** Words as a list: `a`, `a and b`, `a, b and c`. */
export function list(words: readonly string[]): string {
  if (words.length < 2) return words.join("");
  return `${words.slice(0, -1).join(", ")} and ${words[words.length - 1] ?? ""}`;
}
