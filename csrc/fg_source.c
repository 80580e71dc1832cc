/* The table of sources. A new one is a file of its own and a line here.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_source.h"

#include <string.h>

static const struct fg_source_ops *const sources[] = {
	&fg_source_rapl,   &fg_source_perf,     &fg_source_hwmon,  &fg_source_nvml,
	&fg_source_amdsmi, &fg_source_procstat, &fg_source_replay,
};

const struct fg_source_ops *fg_source_find(const char *name)
{
	for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
		if (strcmp(sources[i]->name, name) == 0)
			return sources[i];
	return NULL;
}
