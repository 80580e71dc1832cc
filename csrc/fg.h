/* fastgreen's engine, in reading order. Read this page, then the headers in the order of the includes below.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The engine reads energy sensors from threads of its own, and says later how much energy any window of time took.
 *
 * The story of one sample:
 *
 *   sensor --raw--> source --reading--> sampler --sample--> channel = account + ring --samples--> resolver --> joules
 *           (driver)        (one thread for each source)      |                (Python, at leisure)
 *                                                             '--> live totals, for any thread
 *
 *   1. The thread of a sampler (fg_sampler) sleeps until an absolute deadline of the monotonic clock (fg_clock).
 *   2. It asks its source (fg_source) for the raw integer of each sensor, and stamps the integer with the middle of
 *      the call. The result is a sample: an instant, an integer, half the duration of the call.
 *   3. The channel of the sensor (fg_channel) takes the sample. First its account (fg_account) undoes wraps and jumps
 *      of the counter (fg_jump), adds the growth to the running total and learns how often the sensor updates; the
 *      traits (fg_traits) hold the facts known before. Then its ring (fg_ring) passes the sample to a slower thread
 *      without a lock. If the ring is full, the point of the curve is lost and counted; the total is complete.
 *   4. At the end a resolver (fg_resolver) walks once over the samples and over the sorted edges of all windows. For
 *      each window it gives the least, the most and the likely energy. Of a recorded run it gets the samples of all
 *      channels in one pass over the file (fg_batches).
 *   5. If windows go in step with the load, the likely energy needs more than straight lines between updates: fg_follow
 *      gives the counter's growth out by how long the load was in which window.
 *   6. Where spans of work overlap, shares (fg_share) do the same for all of them at once, as a stream;
 *      for spans that are known beforehand, from columns (fg_share_batch).
 *
 * If something fails: each function returns a status and fills a struct fg_error that the caller owns (fg_error). A
 * sensor that never answers stops its own source only (fg_thread).
 *
 * Sources, one file each:
 *   fg_source_rapl       powercap's attributes, through descriptors that stay open (fg_sysfs)
 *   fg_source_hwmon      attributes of drivers, in the same way
 *   fg_source_perf       the energy of rapl from the kernel's perf events, all domains of a package in one read
 *   fg_source_nvml       NVIDIA boards, through NVIDIA's library, which is loaded at run time (fg_nvml)
 *   fg_source_amdsmi     energy counters of AMD boards, through AMD's library, in the same way (fg_amdsmi)
 *   fg_source_procstat   an estimate from CPU time
 *   fg_source_replay     a saved run
 *
 * The metrics (fg_metric) are a second subject: loops that score columns and grids of accuracy and cost. They share
 * only fg_* conventions with the sampler. The metrics and the resolver have one path per instruction set, chosen at run
 * time, and all paths give the same bits.
 *
 * Layers; a file includes only files to the left of it:
 *   error, clock, big  <-  thread, ring, jump, sysfs, metric  <-  traits  <-  account, resolver, follow, batches
 *   <-  channel, source, share  <-  nvml, amdsmi  <-  source_*  <-  sampler */
#ifndef FG_H
#define FG_H

#include "fg_error.h"
#include "fg_clock.h"
#include "fg_thread.h"
#include "fg_ring.h"
#include "fg_jump.h"
#include "fg_sysfs.h"
#include "fg_traits.h"
#include "fg_account.h"
#include "fg_resolver.h"
#include "fg_resolver_sum.h"
#include "fg_follow.h"
#include "fg_batches.h"
#include "fg_share.h"
#include "fg_share_columns.h"
#include "fg_share_batch.h"
#include "fg_source.h"
#include "fg_nvml.h"
#include "fg_amdsmi.h"
#include "fg_channel.h"
#include "fg_sampler.h"
#include "fg_metric.h"

#endif
