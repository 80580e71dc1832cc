/* fastgreen's engine, in reading order.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The story of one sample. A sampler's thread (fg_sampler) sleeps until an absolute deadline of the monotonic clock
 * (fg_clock). It asks its source (fg_source: rapl, perf, nvml, hwmon, procstat, replay) for the raw integer of one
 * sensor and stamps it with the middle of that call. The sensor's channel (fg_channel) takes it: its account (fg_account)
 * undoes wraps and jumps (fg_jump), adds the growth to the running total and learns how often the sensor updates; its ring (fg_ring) hands
 * the sample to a slower thread, and if that one lags and the ring is full, the point of the curve is lost and counted,
 * the total is not. A sensor that never answers costs its own source and nothing else (fg_thread). In the end a
 * resolver (fg_resolver) walks once over samples and over the sorted edges of all windows, and says for each how much
 * energy there was at least, at most, and most likely; its two inner loops have one path per instruction set
 * (fg_resolver_path). Failures are a status and a struct fg_error that the caller owns (fg_error).
 *
 * Each source is one file. fg_source_rapl reads powercap's attributes and fg_source_hwmon those of drivers, both over
 * descriptors kept open (fg_sysfs); fg_source_perf takes the same energy as rapl from the kernel's power events, all
 * domains of a package in one read; fg_source_nvml asks NVIDIA's library, loaded at run time (fg_nvml);
 * fg_source_procstat estimates from CPU time; fg_source_replay plays a saved run.
 *
 * Apart from that story stand the metrics (fg_metric): loops that score columns and grids, one path per instruction
 * set. They share nothing with the sampler but the rules of the house.
 *
 * An arrow never points up or sideways:  error, clock  <-  thread, ring, jump, sysfs, metric  <-  traits
 *   <-  account, resolver  <-  channel, source  <-  nvml  <-  source_*  <-  sampler */
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
#include "fg_source.h"
#include "fg_nvml.h"
#include "fg_channel.h"
#include "fg_sampler.h"
#include "fg_metric.h"

#endif
