// Judges the published description (URL/api/v1/openapi.json) by the recommended rules of Redocly's linter. Prints
// {"errors": [...], "warnings": n}.
import { createConfig, lintFromString } from "@redocly/openapi-core";

const { URL: url } = process.env;
const source = await (await fetch(`${url}/api/v1/openapi.json`)).text();
const config = await createConfig({ extends: ["recommended"] });
const problems = await lintFromString({ source, absoluteRef: "/openapi.json", config });
const errors = problems.filter((p) => p.severity === "error");
console.log(JSON.stringify({
  errors: errors.slice(0, 40).map((p) => `${p.ruleId}: ${p.message} at ${p.location[0]?.pointer}`),
  warnings: problems.length - errors.length,
}));
process.exit(errors.length ? 1 : 0);
