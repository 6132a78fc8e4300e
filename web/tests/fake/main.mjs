// Runs the fake server to work on the page by hand: npm run build && npm run fake
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { FakeServer, PASSWORD } from "./server.mjs";

const page = process.argv[2] ?? join(dirname(fileURLToPath(import.meta.url)), "../../dist");
const server = await new FakeServer({ page, stepMs: 400 }).listen(Number(process.env.PORT ?? 0));
console.log(`${server.url}  user root, password ${PASSWORD}`);
