// Keeps the start page open in Chromium and says what is drawn on it, each time a line comes on its input.
// One line of JSON for each: {alerts: [[alert, host], …], problem}. Nothing is asked but what the page asks.
//
//   MLOPS_EYE='{"url":…, "account":…, "password":…, "chromium":…, "packages":…, "pictures":…}' node eye.mjs
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const settings = JSON.parse(process.env.MLOPS_EYE);
const { chromium } = createRequire(join(settings.packages, "x.js"))("playwright-core");
const PATIENCE = 300000;

const browser = await chromium.launch({
  executablePath: settings.chromium,
  args: ["--no-sandbox", "--headless=shell", "--use-gl=angle", "--use-angle=swiftshader", "--disable-dev-shm-usage"],
});
const context = await browser.newContext({
  viewport: { width: 1280, height: 800 },
  locale: "en-GB",
  ignoreHTTPSErrors: true,
  httpCredentials: { username: settings.account, password: settings.password },
});
const page = await context.newPage();
page.setDefaultTimeout(PATIENCE);
await page.goto(`${settings.url}/sign-in`, { timeout: PATIENCE });
await page.waitForSelector("#view section, #view .banner, #view .problem");

/** The alerts that a person can see now, by the words of their buttons, and what the page says of itself. */
const drawn = () =>
  page.evaluate(() => {
    const seen = [...document.querySelectorAll("#view .alert")].filter((one) => one.checkVisibility({ visibilityProperty: true }) && one.getBoundingClientRect().height > 0);
    const words = seen.map((one) => one.querySelector("button .visually-hidden")?.textContent.trim().split(" ") ?? []);
    return {
      alerts: words.filter(([alert]) => alert).map(([alert, host]) => [alert, host ?? ""]),
      problem: document.querySelector("#view .problem, .banner.bad")?.textContent ?? "",
    };
  });

let pictures = 0;
const asked = createInterface({ input: process.stdin });
for await (const line of asked) {
  if (line === "picture" && settings.pictures) await page.screenshot({ path: join(settings.pictures, `troubles-${(pictures += 1)}.png`), fullPage: true });
  console.log(JSON.stringify(await drawn()));
}
await browser.close();
