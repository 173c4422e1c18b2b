// Firefox on the console page, as a person would use it: publishes its fake camera and microphone in VP8 and Opus, plays
// another stream, and prints what the page shows and what came, a few times a second.
//
// Usage: node firefox.mjs PAGE TOKEN ROOM PUBLISHED PLAYED
// Each line on standard output is a JSON object:
//   publisher, player   the data attributes of the two sessions' cards: state, node, gaps, lastGapMs ...
//   shown               what the player's video element presented so far: frames, and gaps: ms without one before frame
//   received            totals of getStats: frames decoded, packets and samples of audio ... of all peer connections
// It ends on SIGTERM or SIGINT, and Firefox with it.
import puppeteer from "puppeteer-core";
import { prepare } from "./measure.mjs";

const [url, token, room, published, played] = process.argv.slice(2);
if (played === undefined) throw new Error("usage: firefox.mjs PAGE TOKEN ROOM PUBLISHED PLAYED");
/** Longest wait for each step. */
const LIMIT_MS = 20_000;
/** Time between two lines. */
const PERIOD_MS = 250;

/** Most clicks that miss. */
const MOST_CLICKS = 10;
/** Gaps between two frames that are worth a word. */
const GAP_MS = 300;

/** Chooses a form's first option whose value begins so, once there is one: devices have ids that nobody knows ahead. */
async function choose(page, selector, prefix) {
  const find = (where, start) => [...document.querySelector(where).options].find(({ value }) => value.startsWith(start))?.value;
  const value = await page.waitForFunction(find, {}, selector, prefix);
  await page.select(selector, await value.jsonValue());
}

/** Types into a field what shall stand there alone. */
async function fill(page, selector, text) {
  const field = await page.waitForSelector(selector);
  await field.evaluate((element) => { element.focus(); element.select(); });
  await page.keyboard.type(text);
}

/** Clicks an element until it has been hit: it may move while the pointer is on its way. */
async function click(page, selector) {
  const element = await page.waitForSelector(selector);
  await element.evaluate((target) => target.addEventListener("click", () => { target.dataset.hit = "true"; }, { once: true }));
  for (let tries = 0; tries < MOST_CLICKS; tries += 1) {
    await element.click();
    if (await element.evaluate(({ dataset }) => dataset.hit === "true")) return;
  }
  throw new Error(`${selector} moves away from the pointer`);
}

async function login(page) {
  await page.goto(url);
  await fill(page, "#access input", token);
  await page.keyboard.press("Enter");
  await page.waitForSelector('#status[data-watch="watching"]');
}

async function publish(page) {
  await fill(page, "#publish-room", room);
  await fill(page, "#publish-stream", published);
  await choose(page, "#publish-picture", "device:");
  await choose(page, "#publish-sound", "device:");
  await choose(page, "#publish-codec", "VP8");
  await click(page, "#publish-start");
}

async function play(page) {
  // A coordinator knows of an origin once the room has the stream.
  await page.waitForSelector(`[data-stream="${room}/${played}"][data-moves][data-origin]`);
  await click(page, `[data-play="${room}/${played}"]`);
  const video = await page.waitForSelector(`[data-session="play ${room}/${played}"] video`);
  await video.evaluate((element, least) => {
    const shown = window.shown = { frames: 0, gaps: [] };
    let last = null;
    const look = (at) => {
      element.requestVideoFrameCallback(look);
      shown.frames += 1;
      if (last !== null && at - last > least) shown.gaps.push({ ms: at - last, frame: shown.frames });
      last = at;
    };
    element.requestVideoFrameCallback(look);
  }, GAP_MS);
}

/** Prints a line now and then, until the browser is told to end. */
async function report(page) {
  while (!ending) {
    const look = await page.evaluate(async (keys) => {
      const [publisher, player] = keys.map((key) => ({ ...document.querySelector(`[data-session="${key}"]`)?.dataset }));
      return { publisher, player, shown: window.shown, received: await window.measure.received() };
    }, [`publish ${room}/${published}`, `play ${room}/${played}`]);
    console.log(JSON.stringify(look));
    await new Promise((resolve) => setTimeout(resolve, PERIOD_MS));
  }
}

let ending = false;
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => { ending = true; });
const browser = await puppeteer.launch({
  browser: "firefox",
  handleSIGINT: false,
  handleSIGTERM: false,
  executablePath: process.env.FIREFOX ?? "/usr/bin/firefox-esr",
  extraPrefsFirefox: {
    "media.navigator.streams.fake": true,
    "media.navigator.permission.disabled": true,
    "media.autoplay.default": 0,
    // An address that has a name of mDNS is found by multicast alone.
    "media.peerconnection.ice.obfuscate_host_addresses": false,
  },
});
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(LIMIT_MS);
  page.on("pageerror", (error) => console.error(`page error: ${error.stack ?? error.message}`));
  await prepare({ addInitScript: (source) => page.evaluateOnNewDocument(source) });
  try {
    await login(page);
    await publish(page);
    await play(page);
    await report(page);
  } catch (error) {
    console.error(await page.evaluate(() => document.body.innerText).catch(() => "the page is gone"));
    throw error;
  }
} finally {
  await browser.close();
}
