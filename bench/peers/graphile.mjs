// The statements that graphile-worker sends, as its own code makes them: prints {"take": {batch: text}, "one": text, "many": text}.
//   node graphile.mjs FOLDER_OF_GRAPHILE_WORKER BATCH…
import { pathToFileURL } from "node:url";

const [folder, ...batches] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(`${folder}/dist/sql/${name}.js`));
const { batchGetJobs } = await load("getJobs");
const { batchCompleteJobs } = await load("completeJobs");

let text;
const client = { query: async (query) => { text = query.text ?? query; return { rows: [{ id: 1, identifier: "job" }] }; } };
const withPgClient = Object.assign((act) => act(client), { withRetries: (act) => act(client) });
const options = {
  escapedWorkerSchema: "graphile_worker", workerSchema: "graphile_worker", logger: console,
  resolvedPreset: { worker: { preparedStatements: true, useNodeTime: false } },
};
const take = {};
for (const batch of batches) {
  await batchGetJobs(options, withPgClient, { job() {} }, "bench", [], Number(batch));
  take[batch] = text;
}
const complete = async (...ids) => {
  await batchCompleteJobs(options, withPgClient, "bench", ids.map((id) => ({ id, job_queue_id: null })));
  return text;
};
console.log(JSON.stringify({ take, one: await complete("1"), many: await complete("1", "2") }));
