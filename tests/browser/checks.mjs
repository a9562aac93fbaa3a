// Looks at the start page in Chromium, as the test that calls it asks, and prints one line of JSON for
// each thing that was looked at: {name, problems}. No problems: it is as it should be.
//
//   node checks.mjs '{"url":…, "account":…, "password":…, "chromium":…, "packages":…, "pictures":…}'
import { readFileSync } from "node:fs";
import { AsyncLocalStorage } from "node:async_hooks";
import { createRequire } from "node:module";
import { join } from "node:path";

const settings = JSON.parse(process.argv[2]);
const require = createRequire(join(settings.packages, "x.js"));
const { chromium } = require("playwright-core");
const AXE = readFileSync(join(settings.packages, "axe-core/axe.min.js"), "utf8");
const SIZES = { phone: [360, 740], desk: [1280, 800], wall: [2560, 1440] };
// Of no meaning but that something will not come: a page that is slow to be drawn is not one that is wrong.
const PATIENCE = 300000;
// What the browser itself says of an answer that is an error, which is what the page is shown here.
const EXPECTED = /Failed to load resource/;
// The pages that a check has opened, so that one that fails says what they look like.
const attempts = new AsyncLocalStorage();

const browser = await chromium.launch({
  executablePath: settings.chromium,
  args: ["--no-sandbox", "--headless=shell", "--use-gl=angle", "--use-angle=swiftshader", "--disable-dev-shm-usage"],
});

/** A page with what it asked for and what it complained of. */
async function open({ size = "desk", scheme = "light", language = "en", hash = "", account = true, patient = true, path, routes = {} } = {}) {
  const [width, height] = SIZES[size];
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: scheme,
    locale: { en: "en-GB", de: "de-DE" }[language],
    timezoneId: "Europe/Berlin",
    ignoreHTTPSErrors: true,
    ...(account ? { httpCredentials: { username: settings.account, password: settings.password } } : {}),
  });
  await context.addInitScript((chosen) => {
    if (!localStorage.getItem("mlops.start.language")) localStorage.setItem("mlops.start.language", chosen);
  }, language);
  // The page asks again when a check says so, and a machine that is slow is not taken for a slow site.
  await context.addInitScript((waits) => {
    const later = globalThis.setTimeout;
    globalThis.intervals = [];
    globalThis.setInterval = (_what, time) => globalThis.intervals.push(time);
    if (waits) globalThis.setTimeout = (what, time, ...more) => later(what, time === 10000 ? 3600000 : time, ...more);
  }, patient);
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const seen = { requests: [], complaints: [], failed: [] };
  page.on("request", (request) => seen.requests.push(request.url()));
  page.on("requestfailed", (request) => seen.failed.push(`${request.url()}: ${request.failure()?.errorText}`));
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && seen.complaints.push(message.text()));
  page.on("pageerror", (error) => seen.complaints.push(String(error.stack)));
  for (const [pattern, answer] of Object.entries(routes)) await page.route(pattern, answer);
  await page.goto(`${settings.url}${path ?? (account ? "/sign-in" : "/")}${hash}`);
  const opened = { page, seen, close: () => context.close() };
  attempts.getStore()?.push(opened);
  return opened;
}

const shown = (page) => page.locator("#view").innerText();

/** What is wrong with any page: complaints, requests elsewhere, a width beyond the screen, axe. */
async function common({ page, seen }, { errors = false } = {}) {
  const problems = seen.complaints.filter((words) => !(errors && EXPECTED.test(words)));
  problems.push(...seen.requests.filter((url) => !url.startsWith(settings.url)).map((url) => `asked ${url}`));
  const [wide, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  if (wide > screen) problems.push(`${wide} pixels wide on ${screen}`);
  // Evaluated by the browser's own console, which the page's policy does not bind.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  for (const { id, impact, nodes } of violations) {
    if (["serious", "critical"].includes(impact)) problems.push(`axe ${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(" | ")}`);
  }
  return problems;
}

async function needs(page, words) {
  const text = await shown(page);
  return words.filter((word) => !text.includes(word)).map((word) => `"${word}" is not shown in: ${text.slice(0, 400)}`);
}

/** Wait until a function is true in the page. It is asked ten times a second: a page that draws nothing has no frames. */
const until = (page, seen, given) => page.waitForFunction(seen, given, { polling: 100 });
const settled = (page) =>
  until(page, () => {
    const charts = [...document.querySelectorAll(".chart")];
    const drawn = charts.length && charts.every((one) => one.querySelector("canvas") || /No request|keine Anfrage/.test(one.textContent));
    return drawn || document.querySelector(".banner, .signed-out, .problem");
  });
/** Let the page ask again, as it does when somebody looks at it again, and wait for what comes of that. */
async function turn(page) {
  const answered = (than = 0) => performance.getEntriesByType("resource").filter(({ name }) => name.includes("/api/v2/silences")).length > than;
  const before = await page.evaluate(() => performance.getEntriesByType("resource").filter(({ name }) => name.includes("/api/v2/silences")).length);
  await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  await until(page, answered, before);
  await page.evaluate(() => new Promise((done) => setTimeout(done, 500)));
}
/** A page about one thing, with all that was asked about it. */
const told = (page, name) => until(page, (one) => document.querySelector("#detail")?.textContent.includes(one) && !document.querySelector("#view").innerText.includes("Asking the site"), name);
const picture = async (page, name) => settings.pictures && (await page.screenshot({ path: join(settings.pictures, `${name}.png`), fullPage: true }));

const checks = {};

// Every language with every scheme, on every size, with different pages among them.
const LOOKS = [
  ["phone", "dark", "de", ""],
  ["phone", "light", "en", "#/device/edge1"],
  ["desk", "light", "en", ""],
  ["desk", "dark", "de", "#/model/breast-cancer"],
  ["desk", "light", "de", "#/device/edge5"],
  ["wall", "dark", "en", ""],
  ["wall", "light", "de", ""],
];
for (const [size, scheme, language, hash] of LOOKS) {
  checks[`looks ${size} ${scheme} ${language} ${hash.split("/")[1] ?? "overview"}`] = async () => {
    const opened = await open({ size, scheme, language, hash });
    await settled(opened.page);
    const words = { "": ["13", "edge5", "breast-cancer", "mean_radius", "store1"], "#/device/edge1": ["breast-cancer", "canary"], "#/device/edge5": ["edge5 does not answer"], "#/model/breast-cancer": ["mean_radius", "edge1", "0,41"] };
    const problems = [...(await common(opened)), ...(await needs(opened.page, words[hash]))];
    const title = { en: "Alerts", de: "Meldungen" }[language];
    problems.push(...(await needs(opened.page, [title])));
    await picture(opened.page, `${size}-${scheme}-${language}${hash.replace(/\W+/g, "-")}`);
    await opened.close();
    return problems;
  };
}

checks["a language and a scheme are switched and remembered"] = async () => {
  const opened = await open({ language: "en" });
  const { page } = opened;
  await settled(page);
  await page.selectOption("#language", "de");
  await page.selectOption("#scheme", "dark");
  await page.reload();
  await settled(page);
  const problems = await needs(page, ["Meldungen", "Was wann zu Ende geht"]);
  const dark = await page.evaluate(() => [document.documentElement.lang, getComputedStyle(document.body.parentElement).backgroundColor, document.querySelector(".links a").textContent]);
  if (dark.join() !== "de,rgb(20, 23, 26),Modell-Register") problems.push(`after a reload: ${dark}`);
  await opened.close();
  return problems;
};

checks["nothing is shown or asked without an account"] = async () => {
  const opened = await open({ account: false });
  await opened.page.waitForSelector(".signed-out");
  const problems = [...(await common(opened)), ...(await needs(opened.page, ["Sign in to see the site"]))];
  problems.push(...opened.seen.requests.filter((url) => /site\.json|\/api\//.test(url)).map((url) => `asked ${url}`));
  const text = await opened.page.locator("body").innerText();
  if (/edge\d/.test(text)) problems.push("a device is named");
  if (!text.includes("Model registry")) problems.push("the services are not linked");
  await picture(opened.page, "signed-out");
  await opened.close();
  return problems;
};

checks["an account that the gateway no longer takes leads back to signing in"] = async () => {
  const opened = await open({ routes: { "**/site.json": (route) => route.fulfill({ status: 401, body: "" }) } });
  await opened.page.waitForSelector(".signed-out");
  const problems = await common(opened, { errors: true });
  await opened.close();
  return problems;
};

checks["the password is nowhere in the page"] = async () => {
  const opened = await open();
  await settled(opened.page);
  const kept = await opened.page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }) + document.documentElement.outerHTML);
  await opened.close();
  return kept.includes(settings.password) ? ["it is"] : [];
};

checks["it asks at most ten questions at first and five later"] = async () => {
  const opened = await open();
  const { page, seen } = opened;
  await settled(page);
  const asked = () => seen.requests.filter((url) => /\/api\//.test(url)).length;
  const first = asked();
  await turn(page);
  const second = asked() - first;
  const every = await page.evaluate(() => globalThis.intervals.join());
  await opened.close();
  return [...(first <= 10 && second <= 5 && second > 0 ? [] : [`${first} at first, then ${second}`]), ...(every === "15000" ? [] : [`asks every ${every} ms`])];
};

checks["what stands there is kept when it asks again"] = async () => {
  const opened = await open();
  const { page } = opened;
  await settled(page);
  await page.evaluate(() => {
    globalThis.kept = [...document.querySelectorAll("#view section, #view tr, #view canvas, #view button")];
    document.querySelector(".alert button").focus();
    globalThis.focused = document.activeElement;
  });
  await turn(page);
  const [gone, focus] = await page.evaluate(() => [globalThis.kept.filter((one) => !one.isConnected).length, document.activeElement === globalThis.focused]);
  await opened.close();
  return [...(gone ? [`${gone} elements were replaced`] : []), ...(focus ? [] : ["the focus was lost"])];
};

checks["everything is reached by the keyboard and seen to have the focus"] = async () => {
  const opened = await open();
  const { page } = opened;
  await settled(page);
  const problems = [];
  await page.evaluate(() => document.activeElement.blur());
  const all = await page.evaluate(() => [...document.querySelectorAll("a[href], button, select, input, summary, [tabindex='0']")].filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.closest("details:not([open]) > :not(summary)")).length);
  const visited = new Set();
  for (let step = 0; step < all + 5; step += 1) {
    await page.keyboard.press("Tab");
    const found = await page.evaluate(() => {
      const one = document.activeElement;
      if (one === document.body) return null;
      globalThis.order ??= new Map();
      if (!globalThis.order.has(one)) globalThis.order.set(one, globalThis.order.size);
      const style = getComputedStyle(one);
      return [globalThis.order.get(one), style.outlineStyle !== "none" && Number.parseFloat(style.outlineWidth) >= 2, one.outerHTML.slice(0, 120)];
    });
    if (!found) continue;
    visited.add(found[0]);
    if (!found[1]) problems.push(`no visible focus: ${found[2]}`);
  }
  if (visited.size < all) problems.push(`${visited.size} of ${all} were reached`);
  await opened.close();
  return problems;
};

checks["a device and a model are opened and left by the keyboard"] = async () => {
  const opened = await open();
  const { page } = opened;
  await settled(page);
  await page.locator(".devices a", { hasText: "edge2" }).focus();
  await page.keyboard.press("Enter");
  await page.waitForSelector("#detail");
  const problems = await needs(page, ["Device edge2"]);
  if ((await page.evaluate(() => document.activeElement.id)) !== "detail") problems.push("the focus is not on the heading");
  await page.waitForSelector(".part.serves a[href*='model']");
  await page.locator(".part.serves a[href*='breast']").first().focus();
  await page.keyboard.press("Enter");
  await page.waitForSelector(".part.drift table");
  problems.push(...(await needs(page, ["Model breast-cancer", "mean_texture"])));
  await page.locator(".back a").focus();
  await page.keyboard.press("Enter");
  await page.waitForSelector(".figures");
  await opened.close();
  return problems;
};

checks["an alert is silenced by the keyboard, shown as such, and speaks again"] = async () => {
  const opened = await open();
  const { page } = opened;
  await settled(page);
  await page.locator(".alert.warning button").focus();
  await page.keyboard.press("Enter");
  await page.waitForSelector("dialog[open]");
  const problems = await common(opened);
  // The account is a person's, so who silences is known; why is asked for.
  const who = await page.inputValue("#silence-who");
  if (who !== settings.account) problems.push(`who: ${who}`);
  await page.locator("dialog button[type=submit]").focus();
  await page.keyboard.press("Enter");
  if (!(await page.locator("dialog").innerText()).includes("Say who you are and why.")) problems.push("a silence without a reason is not refused");
  await page.locator("#silence-why").fill("The disk is being replaced");
  await page.keyboard.press("Tab");
  await picture(page, "silence");
  await page.locator("dialog button[type=submit]").focus();
  await page.keyboard.press("Enter");
  await page.waitForSelector("dialog", { state: "detached" });
  await until(page, () => document.querySelectorAll(".part.alerts > ul > .alert").length === 1);
  const said = await page.locator("#said").innerText();
  if (!said.startsWith("The alert is silenced until")) problems.push(`said: ${said}`);
  await page.locator(".part.alerts summary").last().press("Enter");
  problems.push(...(await needs(page, ["The disk is being replaced", settings.account])));
  await page.locator(".silences button").press("Enter");
  await until(page, () => document.querySelectorAll(".part.alerts > ul > .alert").length === 2);
  await opened.close();
  return problems;
};

checks["a silence that is refused says why"] = async () => {
  const opened = await open({ routes: { "**/alertmanager/api/v2/silences": (route) => (route.request().method() === "POST" ? route.fulfill({ status: 403, body: "" }) : route.continue()) } });
  const { page } = opened;
  await settled(page);
  await page.locator(".alert button").first().click();
  await page.locator("#silence-why").fill("x");
  await page.locator("dialog button[type=submit]").click();
  await until(page, () => document.querySelector("dialog .problem").textContent.includes("This account may not"));
  await page.keyboard.press("Escape");
  await page.waitForSelector("dialog", { state: "detached" });
  const problems = await common(opened, { errors: true });
  await opened.close();
  return problems;
};

checks["who may only look is offered no silence"] = async () => {
  const opened = await open({
    routes: {
      "**/site.json": async (route) => {
        const answer = await route.fetch();
        await route.fulfill({ response: answer, headers: { ...answer.headers(), "mlops-rights": "viewer" } });
      },
    },
  });
  await settled(opened.page);
  const problems = [...(await common(opened)), ...(await needs(opened.page, ["edge5 does not answer"]))];
  if (await opened.page.locator(".alert button").count()) problems.push("a silence is offered");
  await opened.close();
  return problems;
};

checks["every link leads to a page with its words"] = async () => {
  const opened = await open();
  const { page } = opened;
  await settled(page);
  const words = [
    [/^\/runbooks\//, "What to do"],
    [/^\/mlflow\//, "Experiments"],
    [/^\/prometheus\/classic\/graph/, "Prometheus"],
  ];
  const links = new Set();
  for (const hash of ["#/", "#/device/edge1", "#/model/breast-cancer", "#/device/ctl1"]) {
    await page.evaluate((next) => (location.hash = next), hash);
    await (hash === "#/" ? settled(page) : told(page, hash.split("/")[2]));
    for (const href of await page.evaluate(() => [...document.querySelectorAll("a[href]")].map((one) => one.getAttribute("href")))) links.add(href);
  }
  const problems = [];
  for (const href of links) {
    if (href.startsWith("#/") || href === "#main") continue;
    const [, expected] = words.find(([pattern]) => pattern.test(href)) ?? [];
    if (!expected) problems.push(`nobody knows what ${href} should be`);
    else {
      const answer = await page.request.get(settings.url + href.replace(/#.*/, ""));
      if (!answer.ok() || !(await answer.text()).includes(expected)) problems.push(`${href}: ${answer.status()}`);
    }
  }
  for (const href of links) {
    if (!href.startsWith("#/") || href === "#/") continue;
    await page.evaluate((next) => (location.hash = next), href);
    await told(page, decodeURIComponent(href.split("/")[2]));
    if ((await shown(page)).includes("knows a device of this name")) problems.push(`${href} is unknown`);
  }
  await opened.close();
  return problems;
};

const nothing = { status: 200, contentType: "application/json", body: '{"status":"success","data":{"resultType":"vector","result":[]}}' };
const EMPTY = {
  "**/site.json": (route) => route.fulfill({ json: { site: "werk", devices: [], hosts: [], measured_here: true, plan: { verdict: "", ends: null, resources: [] } } }),
  "**/prometheus/api/**": (route) => route.fulfill(nothing),
  "**/alertmanager/api/**": (route) => route.fulfill({ json: [] }),
};

checks["a site without devices, models or measurements says what comes next"] = async () => {
  const opened = await open({ routes: EMPTY, size: "phone" });
  await opened.page.waitForSelector(".part.fleet");
  await until(opened.page, () => document.querySelector("#view").innerText.includes("No alert is firing"));
  const problems = [...(await common(opened)), ...(await needs(opened.page, ["The inventory has no devices yet", "make pipeline", "No release with a reference profile", "Nothing has been released yet", "Nothing is known to run out"]))];
  await picture(opened.page, "empty");
  await opened.close();
  return problems;
};

for (const [name, answer, words] of [
  ["Prometheus is down", (route) => route.fulfill({ status: 502, body: "" }), "Prometheus does not answer"],
  ["Prometheus refuses a question", (route) => route.fulfill({ status: 422, body: "too many samples" }), "too many samples"],
  ["Prometheus answers no JSON", (route) => route.fulfill({ status: 200, body: "<html>" }), "Prometheus refuses a question"],
  ["the account may not see", (route) => route.fulfill({ status: 403, body: "" }), "This account may not see the measurements"],
  ["there is no Prometheus", (route) => route.fulfill({ status: 404, body: "" }), "There is no Prometheus at this gateway"],
]) {
  checks[`${name}: it says so from the start`] = async () => {
    const opened = await open({ routes: { "**/prometheus/api/**": answer } });
    await opened.page.waitForSelector(".banner");
    const problems = [...(await common(opened, { errors: true })), ...(await needs(opened.page, [words, "2 alerts are firing"]))];
    await picture(opened.page, name.replace(/\W+/g, "-"));
    await opened.close();
    return problems;
  };
}

checks["what was known stays, with its time, when Prometheus goes and comes back"] = async () => {
  let down = false;
  const opened = await open({ routes: { "**/prometheus/api/**": (route) => (down ? route.fulfill({ status: 503, body: "" }) : route.continue()) } });
  const { page } = opened;
  await settled(page);
  down = true;
  const again = () => page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  await again();
  await page.waitForSelector(".banner");
  const problems = [...(await common(opened, { errors: true })), ...(await needs(page, ["What stands below is of", "Last answer at", "edge1", "mean_radius"]))];
  down = false;
  await again();
  await page.waitForSelector(".banner", { state: "detached" });
  await opened.close();
  return problems;
};

checks["a Prometheus that never answers is given up and said to be slow"] = async () => {
  const opened = await open({ patient: false, routes: { "**/prometheus/api/**": () => {} } });
  await opened.page.waitForSelector(".banner");
  const problems = await needs(opened.page, ["Prometheus answers slowly"]);
  await opened.close();
  return problems;
};

checks["an Alertmanager that is down is not taken for silence"] = async () => {
  const opened = await open({ routes: { "**/alertmanager/api/**": (route) => route.fulfill({ status: 502, body: "" }) } });
  await settled(opened.page);
  const problems = [...(await common(opened, { errors: true })), ...(await needs(opened.page, ["Alertmanager does not answer", "Nothing is known at the moment"]))];
  if ((await shown(opened.page)).includes("No alert is firing")) problems.push("it says that no alert is firing");
  await opened.close();
  return problems;
};

checks["a site that is watched elsewhere says so"] = async () => {
  const opened = await open({ routes: { "**/site.json": (route) => route.fulfill({ json: { measured_here: false, devices: [], hosts: [], plan: {} } }) } });
  await opened.page.waitForSelector(".signed-out");
  const problems = [...(await common(opened)), ...(await needs(opened.page, ["watched elsewhere"]))];
  problems.push(...opened.seen.requests.filter((url) => url.includes("/api/")).map((url) => `asked ${url}`));
  await opened.close();
  return problems;
};

checks["two thousand devices stay a page that one can read"] = async () => {
  const devices = Array.from({ length: 2000 }, (_one, index) => ({ name: `edge${index}`, ring: "ring_fleet" }));
  const opened = await open({ routes: { "**/site.json": (route) => route.fulfill({ json: { devices, hosts: [], measured_here: true, plan: {} } }) } });
  const { page } = opened;
  await page.waitForSelector(".search");
  await settled(page);
  const problems = await common(opened);
  const listed = await page.locator(".devices li").count();
  if (listed > 60) problems.push(`${listed} devices are listed`);
  await page.fill("#device-name", "edge1");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#detail");
  problems.push(...(await needs(page, ["Device edge1"])));
  await opened.close();
  return problems;
};

checks["a name that nobody knows is said to be unknown"] = async () => {
  const opened = await open({ hash: "#/device/%3Cimg%20src%3Dx%3E" });
  await opened.page.waitForSelector("#view .problem");
  const problems = [...(await common(opened)), ...(await needs(opened.page, ["<img src=x>", "knows a device of this name"]))];
  await opened.close();
  return problems;
};

const asked = settings.only ? Object.keys(checks).filter((name) => settings.only.includes(name)) : Object.keys(checks);
// Two at a time: one waits while the other draws.
const queue = [...asked];
await Promise.all(
  [1, 2].map(async () => {
    while (queue.length) {
      const name = queue.shift();
      if (name.startsWith("an alert is silenced")) continue; // changes what the others see: last, alone
      console.log(JSON.stringify({ name, problems: await attempt(name) }));
    }
  }),
);
for (const name of asked.filter((one) => one.startsWith("an alert is silenced"))) console.log(JSON.stringify({ name, problems: await attempt(name) }));
await browser.close();

async function attempt(name) {
  const pages = [];
  try {
    return await attempts.run(pages, checks[name]);
  } catch (error) {
    return [String(error.stack ?? error), ...(await Promise.all(pages.map(looks)))];
  } finally {
    await Promise.all(pages.map(({ close }) => close().catch(() => {})));
  }
}

/** What a page is like with which a check could not go on. */
async function looks({ page, seen }) {
  const words = page.isClosed()
    ? "it is closed"
    : await Promise.race([
        page.evaluate(() => `${document.readyState}, ${document.visibilityState}: ${document.body.innerText.slice(0, 600)}`).catch(String),
        new Promise((done) => setTimeout(done, 20000, "it answers nothing")),
      ]);
  return JSON.stringify({ url: page.url(), words, failed: seen.failed, complaints: seen.complaints, asked: seen.requests.length });
}
