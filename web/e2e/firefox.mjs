// Firefox on the console page, as a person would use it: publishes its fake camera and microphone in VP8 and Opus, plays
// another stream, and prints what the page shows and what came, a few times a second.
//
// Usage: node firefox.mjs PAGE TOKEN ROOM PUBLISHED PLAYED
// Each line on standard output is a JSON object:
//   publisher, player   the data attributes of the two sessions' cards: state, node, gaps, lastGapMs ...
//   shown               what the player's video element presented so far: frames, and the longest time between two
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

/** Chooses a form's first option whose value begins so: devices have ids that nobody knows ahead. */
async function choose(page, selector, prefix) {
  const value = await page.$eval(selector, (element, start) =>
    [...element.options].map((option) => option.value).find((each) => each.startsWith(start)), prefix);
  if (value === undefined) throw new Error(`${selector} offers no ${prefix}`);
  await page.select(selector, value);
}

/** Types into a field what shall stand there alone. */
async function fill(page, selector, text) {
  await page.click(selector, { count: 3 });
  await page.type(selector, text);
}

async function login(page) {
  await page.goto(url);
  await page.type("#access input", token);
  await page.keyboard.press("Enter");
  await page.waitForSelector('#status[data-watch="watching"]');
}

async function publish(page) {
  await fill(page, "#publish-room", room);
  await fill(page, "#publish-stream", published);
  await choose(page, "#publish-picture", "device:");
  await choose(page, "#publish-sound", "device:");
  await choose(page, "#publish-codec", "VP8");
  await page.click("#publish-start");
}

async function play(page) {
  await (await page.waitForSelector(`[data-play="${room}/${played}"]`)).click();
  const video = await page.waitForSelector(`[data-session="play ${room}/${played}"] video`);
  await video.evaluate((element) => {
    const shown = window.shown = { frames: 0, longest_gap_ms: 0 };
    let last = null;
    const look = (at) => {
      element.requestVideoFrameCallback(look);
      shown.frames += 1;
      shown.longest_gap_ms = Math.max(shown.longest_gap_ms, at - (last ?? at));
      last = at;
    };
    element.requestVideoFrameCallback(look);
  });
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
