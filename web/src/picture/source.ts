/** The built-in picture (frame numbers, large and as a bar code) and tone. So a page without a camera can publish. */

import { cells, NUMBERS } from "./barcode";

/** Size of the picture. */
const WIDTH = 640;
const HEIGHT = 360;
const FRAMES_PER_SECOND = 30;
/** The bar code's strip at the bottom. */
const BAR_HEIGHT = 48;
/** The tone: an A, softly. */
const TONE_HERTZ = 440;
const TONE_GAIN = 0.1;

/** A track with what makes it. */
export interface Source {
  readonly track: MediaStreamTrack;
  /** Ends the track and what makes it. */
  stop(): void;
}

/** Starts a picture. */
export function testPicture(label: string): Source {
  const canvas = document.createElement("canvas");
  canvas.width = WIDTH;
  canvas.height = HEIGHT;
  const context = canvas.getContext("2d", { alpha: false });
  let number = 0;
  const draw = () => {
    if (context !== null) drawFrame(context, number, label);
    number = (number + 1) % NUMBERS;
  };
  draw();
  const [track] = canvas.captureStream(FRAMES_PER_SECOND).getVideoTracks();
  if (context === null || track === undefined) {
    throw new Error("This browser cannot turn a drawing into video: publish a camera instead.");
  }
  const timer = setInterval(draw, 1_000 / FRAMES_PER_SECOND);
  return { track, stop: () => { clearInterval(timer); track.stop(); } };
}

/** Starts a tone. Call it from a person's click: browsers start no sound before that. */
export function testTone(): Source {
  const context = new AudioContext();
  const oscillator = new OscillatorNode(context, { frequency: TONE_HERTZ });
  const destination = new MediaStreamAudioDestinationNode(context);
  oscillator.connect(new GainNode(context, { gain: TONE_GAIN })).connect(destination);
  oscillator.start();
  void context.resume();
  const [track] = destination.stream.getAudioTracks();
  if (track === undefined) throw new Error("This browser cannot turn a tone into a track: publish a microphone instead.");
  return { track, stop: () => { track.stop(); void context.close(); } };
}

function drawFrame(context: CanvasRenderingContext2D, number: number, label: string): void {
  const second = number / FRAMES_PER_SECOND;
  context.fillStyle = "#12262b";
  context.fillRect(0, 0, WIDTH, HEIGHT);
  drawDial(context, second);
  context.fillStyle = "#f4f1e8";
  context.textAlign = "left";
  context.textBaseline = "alphabetic";
  context.font = "700 120px ui-monospace, 'DejaVu Sans Mono', monospace";
  context.fillText(String(number).padStart(5, "0"), 236, 190, 380);
  context.font = "500 24px system-ui, 'DejaVu Sans', sans-serif";
  context.fillStyle = "#9fc7bd";
  context.fillText(label, 240, 236, 380);
  drawBars(context, number);
}

/** A hand that turns once a second: where it jumps, frames are missing. */
function drawDial(context: CanvasRenderingContext2D, second: number): void {
  const [x, y, radius] = [124, 152, 88];
  const angle = (second % 1) * 2 * Math.PI - Math.PI / 2;
  context.lineWidth = 10;
  context.strokeStyle = "#24444b";
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.stroke();
  context.strokeStyle = "#5bb8a4";
  context.beginPath();
  context.arc(x, y, radius, -Math.PI / 2, angle);
  context.stroke();
  context.fillStyle = "#e6a255";
  context.beginPath();
  context.arc(x + radius * Math.cos(angle), y + radius * Math.sin(angle), 15, 0, 2 * Math.PI);
  context.fill();
}

function drawBars(context: CanvasRenderingContext2D, number: number): void {
  const row = cells(number);
  row.forEach((white, index) => {
    const from = Math.round((index * WIDTH) / row.length);
    const to = Math.round(((index + 1) * WIDTH) / row.length);
    context.fillStyle = white ? "#ffffff" : "#000000";
    context.fillRect(from, HEIGHT - BAR_HEIGHT, to - from, BAR_HEIGHT);
  });
}
