// Looks at pages that are one file each (an assessment, a rollout) in Chromium, as the test that calls it
// asks, and prints one line of JSON for each: {name, problems}. No problems: it is as it should be.
//
//   node pages.mjs '{"pages": {NAME: FILE}, "chromium":…, "packages":…, "pictures":…}'
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const settings = JSON.parse(process.argv[2]);
const require = createRequire(join(settings.packages, "x.js"));
const { chromium } = require("playwright-core");
const AXE = readFileSync(join(settings.packages, "axe-core/axe.min.js"), "utf8");
// Of no meaning but that something will not come.
const PATIENCE = 300000;
// A phone, a desk and the width of A4 between margins of 15 mm, in CSS pixels of 1/96 inch.
const LOOKS = [
  { name: "phone", width: 360, height: 740, colorScheme: "dark", media: "screen" },
  { name: "desk", width: 1280, height: 800, colorScheme: "light", media: "screen" },
  { name: "paper", width: Math.floor((180 / 25.4) * 96), height: 1000, colorScheme: "light", media: "print" },
];
const ORDER = ["fail", "error", "warn", "waived"];

const browser = await chromium.launch({
  executablePath: settings.chromium,
  args: ["--no-sandbox", "--headless=shell", "--use-gl=angle", "--use-angle=swiftshader", "--disable-dev-shm-usage"],
});

/** What sticks out of the page, or is too narrow to be read. What scrolls by itself is let scroll, but not on paper. */
function measured(paper) {
  const problems = [];
  const screen = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > screen) problems.push(`${document.documentElement.scrollWidth} pixels wide on ${screen}`);
  const named = (one) => `${one.tagName.toLowerCase()} "${one.textContent.trim().slice(0, 60)}"`;
  for (const one of document.body.querySelectorAll("*")) {
    if (!one.checkVisibility() || (!paper && one.closest(".wide") && !one.matches(".wide"))) continue;
    const { right, width } = one.getBoundingClientRect();
    if (width && right > screen + 1) problems.push(`${named(one)} ends at ${Math.round(right)} of ${screen}`);
    else if (one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== "inline" && !(one.matches(".wide") && !paper)) problems.push(`${named(one)} holds ${one.scrollWidth} pixels in ${one.clientWidth}`);
  }
  for (const one of document.querySelectorAll(".findings td:nth-child(n + 4)")) {
    if (!one.textContent.trim() || !one.checkVisibility()) continue;
    const box = one.getBoundingClientRect();
    if (box.width < 90) problems.push(`${named(one)} has a width of ${Math.round(box.width)}`);
  }
  return problems.slice(0, 6);
}

/** What of a finding is not shown, and what stands in the wrong order. */
function findings(order) {
  const problems = [];
  const states = [...document.querySelectorAll("table.findings tbody tr")].map((row) => order.findIndex((state) => row.firstElementChild.classList.contains(state)));
  if (states.some((state, index) => state < 0 || state < states[index - 1])) problems.push(`order: ${states}`);
  for (const one of document.querySelectorAll("table.findings td:nth-child(6)")) {
    if (one.textContent.trim() && !one.checkVisibility()) problems.push(`a remedy is not shown: ${one.textContent.slice(0, 60)}`);
  }
  const passed = document.querySelector("details");
  if (passed?.open) problems.push("what passed is not folded");
  if (passed && document.querySelector("table.findings")?.compareDocumentPosition(passed) === Node.DOCUMENT_POSITION_PRECEDING) problems.push("what passed comes first");
  return problems;
}

async function axe(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const grave = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  return grave.map(({ id, nodes }) => `axe ${id}: ${nodes.slice(0, 3).map(({ html }) => html.slice(0, 120)).join(" | ")}`);
}

/** Everything that can be used or scrolled is reached by the keyboard and is seen to have the focus. */
async function keyboard(page) {
  const all = await page.evaluate(() => {
    const scrolls = (one) => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflowX === "auto";
    globalThis.wanted = [...document.querySelectorAll("a[href], summary, .wide")].filter((one) => one.checkVisibility() && (!one.matches(".wide") || scrolls(one)) && !one.closest("details:not([open]) > :not(summary)"));
    globalThis.reached = new Set();
    return globalThis.wanted.length;
  });
  const problems = [];
  const stops = await page.evaluate(() => document.querySelectorAll("a[href], summary, .wide, [tabindex]").length);
  for (let step = 0; step <= stops; step += 1) {
    await page.keyboard.press("Tab");
    const unseen = await page.evaluate(() => {
      const one = document.activeElement;
      globalThis.reached.add(one);
      const { outlineStyle } = getComputedStyle(one);
      return one !== document.body && outlineStyle === "none" ? one.outerHTML.slice(0, 100) : "";
    });
    if (unseen) problems.push(`no visible focus: ${unseen}`);
  }
  const missed = await page.evaluate(() => globalThis.wanted.filter((one) => !globalThis.reached.has(one)).map((one) => one.outerHTML.slice(0, 100)));
  if (missed.length) problems.push(`${missed.length} of ${all} are not reached: ${missed[0]}`);
  return problems;
}

async function look(name, file) {
  const problems = [];
  for (const { name: where, width, height, colorScheme, media } of LOOKS) {
    const context = await browser.newContext({ viewport: { width, height }, colorScheme });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    const asked = [];
    page.on("request", (request) => asked.push(request.url()));
    page.on("pageerror", (error) => problems.push(String(error)));
    await page.emulateMedia({ media, colorScheme });
    const url = pathToFileURL(file).href;
    await page.goto(url);
    const found = [...(await page.evaluate(measured, media === "print")), ...(await page.evaluate(findings, ORDER))];
    if (media === "screen") {
      found.push(...(await axe(page)), ...(await keyboard(page)));
      const summary = page.locator("summary");
      if (await summary.count()) {
        await summary.focus();
        await page.keyboard.press("Enter");
        if (!(await page.evaluate(() => document.querySelector("details").open))) found.push("what passed is not unfolded by the keyboard");
        found.push(...(await page.evaluate(measured, false)));
      }
    } else {
      await page.pdf({ preferCSSPageSize: true, printBackground: true, path: settings.pictures && join(settings.pictures, `${name}.pdf`) });
    }
    found.push(...asked.filter((one) => one !== url).map((one) => `asked ${one}`));
    if (settings.pictures) await page.screenshot({ path: join(settings.pictures, `${name}-${where}.png`), fullPage: true });
    problems.push(...found.map((words) => `${where}: ${words}`));
    await context.close();
  }
  return problems;
}

for (const [name, file] of Object.entries(settings.pages)) {
  const problems = await look(name, file).catch((error) => [String(error.stack ?? error)]);
  console.log(JSON.stringify({ name, problems }));
}
await browser.close();
