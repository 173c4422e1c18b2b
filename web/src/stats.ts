/** What a playing peer connection received, from `getStats`. */

/** Totals since the session began. */
export interface Received {
  framesDecoded: number;
  audioPackets: number;
  packetsLost: number;
  bytes: number;
  srtpCipher: string;
}

/** Adds up the inbound streams of a report. */
export function received(report: Iterable<[string, Record<string, unknown>]>): Received {
  const sum: Received = { framesDecoded: 0, audioPackets: 0, packetsLost: 0, bytes: 0, srtpCipher: "" };
  const number = (value: unknown) => (typeof value === "number" ? value : 0);
  for (const [, entry] of report) {
    if (entry["type"] === "inbound-rtp") {
      sum.bytes += number(entry["bytesReceived"]);
      sum.packetsLost += number(entry["packetsLost"]);
      if (entry["kind"] === "video") sum.framesDecoded += number(entry["framesDecoded"]);
      if (entry["kind"] === "audio") sum.audioPackets += number(entry["packetsReceived"]);
    } else if (entry["type"] === "transport" && typeof entry["srtpCipher"] === "string") {
      sum.srtpCipher = entry["srtpCipher"];
    }
  }
  return sum;
}

/** One line for a person. `before` is what was received `seconds` ago. */
export function line(now: Received, before: Received, seconds: number): string {
  const perSecond = (total: number) => Math.max(0, total) / Math.max(seconds, 0.001);
  return [
    bits(perSecond(now.bytes - before.bytes) * 8),
    `${Math.round(perSecond(now.framesDecoded - before.framesDecoded))} frames/s`,
    `${now.packetsLost} lost`,
    now.srtpCipher,
  ].filter((part) => part !== "").join(" · ");
}

/** A bit rate with its unit. */
export function bits(perSecond: number): string {
  if (perSecond >= 1e6) return `${(perSecond / 1e6).toFixed(1)} Mbit/s`;
  return `${Math.round(perSecond / 1e3)} kbit/s`;
}
