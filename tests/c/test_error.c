/* SPDX-License-Identifier: Apache-2.0 */
#include "fg_error.h"
#include "fg_test.h"

#include <errno.h>

FG_TEST(every_status_has_a_text_of_its_own)
{
	for (int i = 0; i < FG_STATUS_COUNT; i++)
		for (int j = 0; j < i; j++)
			fg_check(strcmp(fg_status_text((enum fg_status)i), fg_status_text((enum fg_status)j)) != 0);
	fg_check(fg_status_text((enum fg_status)FG_STATUS_COUNT) != NULL);
	fg_check(fg_status_text((enum fg_status)-1) != NULL);
}

FG_TEST(an_error_carries_everything_and_a_missing_one_is_allowed)
{
	struct fg_error err;

	fg_check(fg_error_set(&err, FG_LOST, EIO, 15, "%s is gone", "gpu") == FG_LOST);
	fg_check_int(err.status, FG_LOST);
	fg_check_int(err.sys_errno, EIO);
	fg_check_int(err.vendor_code, 15);
	fg_check(strcmp(err.message, "gpu is gone") == 0);
	fg_check(fg_error_set(NULL, FG_INVALID, 0, 0, "nobody listens") == FG_INVALID);
}

FG_TEST(a_long_message_is_cut_and_terminated)
{
	struct fg_error err;

	fg_error_set(&err, FG_INVALID, 0, 0, "%0500d", 0);
	fg_check_int((int64_t)strlen(err.message), sizeof err.message - 1);
}

FG_TEST(an_errno_becomes_the_status_that_says_what_to_do)
{
	fg_check_int(fg_status_from_errno(0), FG_OK);
	fg_check_int(fg_status_from_errno(EACCES), FG_NOT_PERMITTED);
	fg_check_int(fg_status_from_errno(EPERM), FG_NOT_PERMITTED);
	fg_check_int(fg_status_from_errno(ENOENT), FG_NOT_FOUND);
	fg_check_int(fg_status_from_errno(ENODEV), FG_NOT_FOUND);
	fg_check_int(fg_status_from_errno(ENOMEM), FG_NO_MEMORY);
	fg_check_int(fg_status_from_errno(ENODATA), FG_NOT_READY);
	fg_check_int(fg_status_from_errno(EIO), FG_READ_FAILED);
	fg_check_int(fg_status_from_errno(ENOSPC), FG_SYSTEM);
}

int main(void)
{
	fg_run(every_status_has_a_text_of_its_own);
	fg_run(an_error_carries_everything_and_a_missing_one_is_allowed);
	fg_run(a_long_message_is_cut_and_terminated);
	fg_run(an_errno_becomes_the_status_that_says_what_to_do);
	return fg_report();
}
