/*
 * perfetto.js FOLDER TRACE QUERIES: Perfetto's own trace processor, as its page in a browser has it
 * (FOLDER: engine_bundle.js and trace_processor.wasm), opens the file TRACE and answers every line
 * of SQL in QUERIES. Rows are printed as trace_processor_shell does, "text",1. Bytes to and from it
 * are TraceProcessorRpcStream of Perfetto's protos/perfetto/trace_processor/trace_processor.proto.
 */
'use strict';
const fs = require('fs');
const path = require('path');
const vm = require('vm');
const [folder, trace, queries] = process.argv.slice(2);

/* Fields of a message: [number, bytes, or the number of a varint]. */
function varint(n) {
    const bytes = [];
    for (; n > 127; n = Math.floor(n / 128)) bytes.push(n % 128 + 128);
    return Buffer.from([...bytes, n]);
}
function field(number, value) {
    if (typeof value === 'number') return Buffer.concat([varint(number * 8), varint(value)]);
    return Buffer.concat([varint(number * 8 + 2), varint(value.length), value]);
}
function number(bytes, at) {
    let value = 0n;
    for (let shift = 0n;; shift += 7n) {
        const byte = bytes[at.i++];
        value |= BigInt(byte & 127) << shift;
        if (byte < 128) return Number(BigInt.asIntN(64, value));
    }
}
function fields(bytes) {
    const list = [];
    for (const at = {i: 0}; at.i < bytes.length;) {
        const tag = number(bytes, at), sizes = {1: 8, 5: 4};
        if (tag % 8 === 0) {
            list.push([tag >> 3, number(bytes, at)]);
            continue;
        }
        const n = tag % 8 === 2 ? number(bytes, at) : sizes[tag % 8];
        list.push([tag >> 3, bytes.subarray(at.i, at.i + n)]);
        at.i += n;
    }
    return list;
}
const all = (message, wanted) => message.filter(f => f[0] === wanted).map(f => f[1]);

/* The worker of the page, without a browser around it. */
const replies = [];
class Request { /* of a file in FOLDER */
    open(method, name) { this.file = path.join(folder, path.basename(name)); }
    send() { this.response = Bytes.from(fs.readFileSync(this.file)).buffer; }
}
const self = vm.createContext({
    console: {log() {}, warn() {}, error() {}}, performance, setTimeout, TextDecoder, TextEncoder,
    URL, XMLHttpRequest: Request, WorkerGlobalScope: Object,
    location: {href: 'file:///engine_bundle.js'},
});
const Bytes = vm.runInContext('Uint8Array', self);
vm.runInContext('self = globalThis', self);
vm.runInContext(fs.readFileSync(path.join(folder, 'engine_bundle.js'), 'utf8'), self);
const port = {postMessage: bytes => replies.push(Buffer.from(bytes))};
self.onmessage({data: port});

const [APPEND, FINALIZE, QUERY] = [1, 2, 3];
let sequence = 0;
/* Its answers, each the fields of a TraceProcessorRpc. */
function ask(method, args) {
    const rpc = [field(1, ++sequence), field(2, method), ...args];
    replies.length = 0;
    port.onmessage({data: Bytes.from(field(1, Buffer.concat(rpc)))});
    const answers = all(fields(Buffer.concat(replies)), 1).map(fields);
    for (const a of answers)
        for (const why of [...all(a, 5), ...all(a, 201).flatMap(r => all(fields(r), 2))])
            throw new Error(String(why));
    return answers;
}

function rows(sql) {
    const columns = [], cells = [];
    for (const answer of ask(QUERY, [field(103, field(1, Buffer.from(sql)))]))
        for (const result of all(answer, 203).map(fields)) {
            for (const why of all(result, 2)) throw new Error(sql + ': ' + why);
            columns.push(...all(result, 1));
            for (const batch of all(result, 3).map(fields)) {
                const texts = Buffer.concat(all(batch, 5)).toString().split('\0');
                const packed = Buffer.concat(all(batch, 2)), at = {i: 0}, real = {i: 0};
                const reals = Buffer.concat(all(batch, 3));
                for (const type of Buffer.concat(all(batch, 1))) {
                    if (type === 2) cells.push(String(number(packed, at)));
                    else if (type === 3) cells.push(String(reals.readDoubleLE(8 * real.i++)));
                    else cells.push(type === 4 ? '"' + texts.shift() + '"' : '"[NULL]"');
                }
            }
        }
    const n = columns.length;
    return cells.length ? cells.map((c, i) => c + ((i + 1) % n ? ',' : '\n')).join('') : '';
}

async function main() {
    const file = fs.readFileSync(trace), PIECE = 1 << 22; /* as a page gives it */
    await new Promise(done => setTimeout(done)); /* what the worker puts off to its loop */
    for (let at = 0; at < file.length; at += PIECE)
        ask(APPEND, [field(101, file.subarray(at, at + PIECE))]);
    ask(FINALIZE, []);
    for (const sql of fs.readFileSync(queries, 'utf8').split('\n'))
        if (sql.trim()) process.stdout.write(rows(sql));
}
main().catch(why => {
    console.error('perfetto.js: ' + why.message);
    process.exitCode = 1;
});
