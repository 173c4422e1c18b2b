// The example pages in Chromium, as a reader would try them; prints one JSON object of what each page told.
//
// Usage: node examples.mjs DEV COORDINATOR      DEV is the page of `waystation dev`, which kills the player's node;
// WAYSTATION names the command that signs tokens.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { createServer } from "vite";

const [dev, coordinator] = process.argv.slice(2);
if (coordinator === undefined) throw new Error("usage: examples.mjs DEV COORDINATOR");

/** Longest wait for each step. */
const LIMIT_MS = 30_000;

const cacheDir = await mkdtemp(`${tmpdir()}/waystation-examples-`);
const server = await createServer({
  configFile: fileURLToPath(new URL("../examples/vite.config.mjs", import.meta.url)),
  server: { port: 0, hmr: false, ws: false, watch: null },
  cacheDir,
  logLevel: "error",
});
await server.listen();

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
    "--auto-select-desktop-capture-source=Entire screen", "--allow-loopback-in-peer-connection",
    "--autoplay-policy=no-user-gesture-required",
  ],
});

/** An example in a window of its own. */
class Page {
  /** Lines before this one were found already. */
  #read = 0;

  constructor(name, tab) {
    this.name = name;
    this.tab = tab;
  }

  static async open(name, user) {
    const tab = await (await browser.newContext()).newPage();
    tab.setDefaultTimeout(LIMIT_MS);
    tab.on("pageerror", (error) => console.error(`${name}: ${error.stack ?? error.message}`));
    const query = new URLSearchParams({ coordinator, room: "demo", stream: "camera", user });
    await tab.goto(`http://127.0.0.1:${server.httpServer.address().port}/${name}?${query}`);
    return new Page(name, tab);
  }

  lines() {
    return this.tab.$$eval("#log li", (lines) => lines.map((line) => line.textContent));
  }

  /** The next line that begins like this, and has this in it, without its beginning. */
  async line(start, within = "") {
    const find = ([wanted, part, from]) => {
      const lines = [...document.querySelectorAll("#log li")].map((line) => line.textContent);
      const index = lines.findIndex((line, place) => place >= from && line.startsWith(wanted) && line.includes(part));
      return index < 0 ? null : { index, rest: lines[index].slice(wanted.length) };
    };
    const found = await this.tab.waitForFunction(find, [start, within, this.#read]).catch(async (error) => {
      throw new Error(`${this.name} told no ${JSON.stringify(start + within)}, but\n${(await this.lines()).join("\n")}`, { cause: error });
    });
    const { index, rest } = await found.jsonValue();
    this.#read = index + 1;
    return rest;
  }

  click(id) {
    return this.tab.click(`#${id}`);
  }

  /** Waits for as many frames more, as the video element counts them. */
  async frames(count) {
    const shown = () => document.querySelector("video").getVideoPlaybackQuality().totalVideoFrames;
    const before = await this.tab.evaluate(shown);
    await this.tab.waitForFunction((least) => document.querySelector("video").getVideoPlaybackQuality().totalVideoFrames >= least, before + count);
    return count;
  }
}

try {
  // A token that is good for 33 s is renewed at once. The second warning is of the token that came with the first.
  process.env.TOKEN_TTL = "33s";
  const room = await Page.open("room.html", "eve");
  await room.click("login");
  await room.line("Connected as session ");
  const warned = [await room.line("the token expires in "), await room.line("the token expires in ")];
  // The other pages renew none, and how long all this takes is the machine's affair.
  process.env.TOKEN_TTL = "1h";

  const publisher = await Page.open("publish.html", "ann");
  await publisher.click("publish");
  await publisher.line("Publishing ");
  await room.line("add user ann");
  await room.line("add stream camera of ann");

  const player = await Page.open("play.html", "bob");
  await player.click("play");
  await player.line("Playing ");
  const frames = await player.frames(60);
  await player.line("quality ");

  // It may have changed nodes by itself: on a busy machine a node is silent at times.
  const first = (await player.lines()).findLast((line) => line.startsWith("Playing ")).slice("Playing ".length);
  const killed = await fetch(new URL(`dev/nodes/${first}/kill`, dev), { method: "POST" });
  if (!killed.ok) throw new Error(`${first} was not killed: ${killed.status}`);
  const gap = await player.line("gap of ", ` ms, ${first} to `);
  const second = gap.split(" to ")[1];
  const framesAfter = await player.frames(60);

  await publisher.click("share");
  await publisher.line("sharing the screen");
  await player.frames(10);
  await publisher.click("mute");

  await publisher.click("stop");
  await publisher.line("closed");
  await room.line("delete stream camera of ann");
  await player.line("NoPlay: ");
  await player.click("stop");
  await player.line("closed");
  await room.click("logout");
  await room.line("Disconnected");
  const log = { "room.html": await room.lines(), "publish.html": await publisher.lines(), "play.html": await player.lines() };
  console.log(JSON.stringify({ first, second, frames, frames_after: framesAfter, gap, warned, log }));
} finally {
  await browser.close();
  await server.close();
  await rm(cacheDir, { recursive: true, force: true });
}
