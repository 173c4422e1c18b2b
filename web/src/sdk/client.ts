/** The client: what an app holds. */

import type { Client } from "./api";

/** A client of a cluster; see {@link Client}. */
export declare const WaystationClient: new (options: import("./api").ClientOptions) => Client;
export type WaystationClient = Client;
