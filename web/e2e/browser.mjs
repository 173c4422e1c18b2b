// Chromium as a user would use the page: one browser publishes its (fake) camera, another plays it.
// Usage: node browser.mjs PAGE PUBLISH_NODE PLAY_NODE [SCREENSHOT.png]
// Prints one JSON object with what the player received; exits 1 with the reason when it did not get there.
import { chromium } from "playwright-core";

const [page, publishNode, playNode, screenshot] = process.argv.slice(2);
if (playNode === undefined) throw new Error("usage: browser.mjs PAGE PUBLISH_NODE PLAY_NODE [SCREENSHOT.png]");
/** Longest wait for each step. */
const LIMIT_MS = 20_000;

function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update",
      "--disable-sync", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
      "--allow-loopback-in-peer-connection", "--autoplay-policy=no-user-gesture-required",
    ],
  });
}

async function open(browser) {
  const tab = await (await browser.newContext({ viewport: { width: 1280, height: 900 } })).newPage();
  tab.setDefaultTimeout(LIMIT_MS);
  tab.on("pageerror", (error) => console.error(`page error: ${error.message}`));
  await tab.goto(page);
  await tab.waitForSelector("#status.good");
  return tab;
}

async function choose(tab, panel, node) {
  await tab.waitForFunction(([id, label]) => [...document.querySelectorAll(`#${id} option`)].some((o) => o.textContent === label), [`${panel}-node`, node]);
  await tab.selectOption(`#${panel}-node`, { label: node });
}

const browsers = await Promise.all([launch(), launch()]);
try {
  const [publisher, player] = await Promise.all(browsers.map(open));
  await choose(publisher, "publish", publishNode);
  await publisher.click("#publish-start");
  await publisher.waitForFunction(() => document.querySelector("#publish-note").textContent === "connected");
  // The stream shows up in the table of whoever watches.
  await player.waitForFunction(() => document.querySelector("#streams").textContent.includes("lobby/camera"));
  await choose(player, "play", playNode);
  await player.click("#play-start");
  const received = await player.waitForFunction(() => {
    const box = document.querySelector("#players .player");
    const seen = box === null ? null : { ...box.dataset };
    return seen !== null && Number(seen.frames) >= 60 && Number(seen.audio) >= 100 ? seen : null;
  });
  const result = await received.jsonValue();
  if (screenshot !== undefined) await player.screenshot({ path: screenshot });
  const note = async (tab, id) => (await tab.textContent(id)) ?? "";
  console.log(JSON.stringify({ ...result, frames: Number(result.frames), audio: Number(result.audio), note: await note(player, "#play-note") }));
  // Stopping takes the stream out of the room for everybody.
  await publisher.click("#publish-stop");
} catch (error) {
  for (const browser of browsers) {
    for (const tab of browser.contexts().flatMap((context) => context.pages())) {
      console.error(await tab.evaluate(() => document.body.innerText).catch(() => "no page"));
    }
  }
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await Promise.all(browsers.map((browser) => browser.close()));
}
