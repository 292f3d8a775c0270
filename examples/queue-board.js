// Shows the queue of `qcow2 worker` in a browser, with bull-board.
//
//   npm install bullmq ioredis express @bull-board/api @bull-board/express
//   QCOW2_QUEUE=redis://127.0.0.1/0 node examples/queue-board.js
//
// Whoever reaches the page sees the names of all images, of URLs the queries, too.
import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { ExpressAdapter } from '@bull-board/express';
import { Queue } from 'bullmq';
import express from 'express';
import { Redis } from 'ioredis';

const url = process.env.QCOW2_QUEUE ?? 'redis://127.0.0.1/0';
const connection = new Redis(url, { maxRetriesPerRequest: null });
connection.on('error', ({ message, code }) => console.error(`queue: ${message || code}`));
const queue = new Queue('qcow2', { connection });
queue.on('error', () => {}); // Those of the connection once more.
const serverAdapter = new ExpressAdapter();
createBullBoard({ queues: [new BullMQAdapter(queue, { readOnlyMode: true })], serverAdapter });
serverAdapter.setBasePath('/queues');
express()
  .use('/queues', serverAdapter.getRouter())
  .listen(3000, '127.0.0.1', () => console.log('http://127.0.0.1:3000/queues/queue/qcow2'));
