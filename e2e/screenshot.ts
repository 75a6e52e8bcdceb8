// npm run screenshot [FILE]: the demo model answers about one of the page's own example charts; the README's picture.
import { openApp } from "./browser.ts";

const file = process.argv[2] ?? "screenshot.png";
const app = await openApp({ viewport: { width: 1200, height: 800 } });
const { page } = app;
try {
  // One click asks the example's first question.
  await page.locator(".example").first().click();
  // A software GPU takes its time.
  await page.locator("article.assistant footer").waitFor({ timeout: 300_000 });
  await page.screenshot({ path: file });
  console.log(`${file}: ${await page.locator("article.assistant").textContent()}`);
} finally {
  await app.close();
}
