// What a viewer gets, measured in the page but not by it. Everything here is sent into the tab as source text.
import { readFile } from "node:fs/promises";
import { transformWithOxc } from "vite";

const barcodeFile = new URL("../src/picture/barcode.ts", import.meta.url);

/** Prepares a tab before its page loads: keeps its peer connections for `getStats`, and brings the bar code's reader. */
export async function prepare(tab) {
  const { code } = await transformWithOxc(await readFile(barcodeFile, "utf8"), "barcode.ts");
  const reader = `data:text/javascript;base64,${Buffer.from(code).toString("base64")}`;
  await tab.addInitScript(`(${install})(${JSON.stringify(reader)}, ${JSON.stringify(worklet)})`);
}

/**
 * Runs on the audio thread: tells how long it heard nothing, each time that it hears something again, and ten times a
 * second that it still hears something.
 */
const worklet = `registerProcessor("listener", class extends AudioWorkletProcessor {
  heard = null;
  told = -1;
  process([input]) {
    const loud = (input[0] ?? []).some((sample) => Math.abs(sample) > 0.003);
    if (!loud) return true;
    const silence = currentTime - (this.heard ?? currentTime);
    if (silence > 0.02 || currentTime - this.told > 0.1) {
      this.port.postMessage(silence * 1000);
      this.told = currentTime;
    }
    this.heard = currentTime;
    return true;
  }
})`;

function install(reader, workletSource) {
  /** Open peer connections, each with a promise of an empty report for when it closes. */
  const peers = new Map();
  window.RTCPeerConnection = class extends window.RTCPeerConnection {
    #ended;
    constructor(...args) {
      super(...args);
      peers.set(this, new Promise((resolve) => { this.#ended = resolve; }));
    }
    close() {
      peers.delete(this);
      super.close();
      this.#ended([]);
    }
  };

  /** Watches the frames of a video element: which number each shows, and when it was presented. */
  async function watchVideo(video, result) {
    const { scan, numberOf } = await import(reader);
    const canvas = new OffscreenCanvas(320, 1);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    let last = null;
    const look = (_, { presentationTime, width, height }) => {
      if (result.ended) return;
      video.requestVideoFrameCallback(look);
      // One row in the middle of the strip of bars, which is 48 of 360 pixels high.
      context.drawImage(video, 0, Math.floor(height * (1 - 24 / 360)), width, 1, 0, 0, canvas.width, 1);
      const cells = scan(context.getImageData(0, 0, canvas.width, 1).data, canvas.width);
      const number = cells === null ? null : numberOf(cells);
      result.frames += 1;
      if (number === null) { result.unreadable += 1; return; }
      if (number === last?.number) return;
      if (last !== null && number < last.number) result.backwards += 1;
      const gap = last === null ? 0 : presentationTime - last.at;
      if (gap > result.video_gap_ms) Object.assign(result, { video_gap_ms: gap, video_gap_numbers: [last.number, number] });
      // With every number there, the page that makes the picture may have stood still.
      if (last !== null && number - last.number > 1) result.lost_gap_ms = Math.max(result.lost_gap_ms, gap);
      last = { number, at: presentationTime };
      result.numbers += 1;
      result.last_number = number;
    };
    video.requestVideoFrameCallback(look);
  }

  /** Listens to the tone of a media stream. Its tracks are swapped when the player moves, so the source follows them. */
  async function listen(media, result) {
    const context = new AudioContext();
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([workletSource], { type: "text/javascript" })));
    const listener = new AudioWorkletNode(context, "listener");
    listener.connect(context.destination);
    listener.port.onmessage = ({ data }) => {
      result.heard += 1;
      result.audio_gap_ms = Math.max(result.audio_gap_ms, data);
    };
    let track = null;
    let source = null;
    const timer = setInterval(() => {
      if (result.ended) { clearInterval(timer); void context.close(); return; }
      const now = media.getAudioTracks()[0] ?? null;
      if (now === track) return;
      source?.disconnect();
      track = now;
      source = now === null ? null : context.createMediaStreamSource(new MediaStream([now]));
      source?.connect(listener);
    }, 5);
  }

  const running = new Map();
  window.measure = {
    /** Starts to measure a session's video element, afresh. */
    start(session) {
      const card = document.querySelector(`[data-session="${session}"]`);
      const video = card?.querySelector("video");
      if (!video) throw new Error(`the page shows no ${session}`);
      const before = running.get(session);
      if (before !== undefined) before.ended = true;
      const result = {
        ended: false, frames: 0, numbers: 0, unreadable: 0, backwards: 0, last_number: null,
        video_gap_ms: 0, video_gap_numbers: null, lost_gap_ms: 0, heard: 0, audio_gap_ms: 0, shown_gap_ms: 0,
      };
      // What the page says of it: the longest gap that it has shown meanwhile.
      new MutationObserver((_, observer) => {
        if (result.ended) observer.disconnect();
        else result.shown_gap_ms = Math.max(result.shown_gap_ms, Number(card.dataset.lastGapMs));
      }).observe(card, { attributeFilter: ["data-gaps"] });
      running.set(session, result);
      return Promise.all([watchVideo(video, result), listen(video.srcObject, result)]).then(() => undefined);
    },
    /** Forgets every session's gaps until now. */
    mark() {
      for (const result of running.values()) Object.assign(result, { video_gap_ms: 0, lost_gap_ms: 0, audio_gap_ms: 0, shown_gap_ms: 0 });
    },
    /** What was measured so far. */
    read(session) {
      const result = running.get(session);
      if (result === undefined) throw new Error(`${session} is not measured: {"do":"measure"} first`);
      const { ended: _, ...figures } = result;
      return figures;
    },
    /** Totals of what every open peer connection received. */
    async received() {
      const sum = { frames: 0, audio: 0, ciphers: [], concealed_samples: 0, samples: 0 };
      for (const [peer, ended] of peers) {
        // Firefox never answers for a peer connection that closes meanwhile.
        for (const [, entry] of await Promise.race([peer.getStats(), ended])) {
          if (entry.type === "transport" && entry.srtpCipher !== undefined) sum.ciphers.push(entry.srtpCipher);
          if (entry.type !== "inbound-rtp") continue;
          if (entry.kind === "video") sum.frames += entry.framesDecoded ?? 0;
          if (entry.kind !== "audio") continue;
          sum.audio += entry.packetsReceived ?? 0;
          sum.samples += entry.totalSamplesReceived ?? 0;
          sum.concealed_samples += entry.concealedSamples ?? 0;
        }
      }
      return sum;
    },
  };
}
