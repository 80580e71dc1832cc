/* Files for tests: a folder of their own, written in one line.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FG_FILES_H
#define FG_FILES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct fg_files {
	char folder[64], path[128];
};

static inline void fg_files_make(struct fg_files *files)
{
	strcpy(files->folder, "/tmp/fg-test-XXXXXX");
	if (mkdtemp(files->folder) == NULL)
		abort();
}

static inline const char *fg_files_path(struct fg_files *files, const char *name)
{
	snprintf(files->path, sizeof files->path, "%s/%s", files->folder, name);
	return files->path;
}

static inline const char *fg_files_write(struct fg_files *files, const char *name, const char *text, size_t length)
{
	FILE *file = fopen(fg_files_path(files, name), "w");

	if (file == NULL || fwrite(text, 1, length, file) != length || fclose(file) != 0)
		abort();
	return files->path;
}

static inline void fg_files_remove(struct fg_files *files, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		unlink(fg_files_path(files, names[i]));
	rmdir(files->folder);
}

#endif
