/* Moves the energy counters of a fake powercap tree: every period, each zone shows the exact integral of its waveform.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A reader must never see half of an old and half of a new number, though it holds a descriptor open and preads it at
 * any moment. A plain file cannot promise that: neither ext4 nor tmpfs locks a buffered read against a write. So in the
 * mode "kernel" each zone is a parked thread of this program, and its counter is that thread's /proc/TID/timerslack_ns:
 * a 64-bit number that the kernel itself stores in one piece and prints in decimal with a newline at each pread, as it
 * does for energy_uj. Writing and reading it takes CAP_SYS_NICE over this process; a user without it has it over a user
 * namespace of his own, so the program moves into one. (The kernel turns a 0 into a default, so 0 shows as 1.) In the
 * mode "file", for where neither is allowed, the counter is 15 digits and a newline in a mapped file, stored by one
 * instruction: of two stores of 8 bytes, a reader that takes the cache line away between them sees the first alone.
 *
 *	argument:  period in us, kernel|file
 *	stdin:     zone START_UJ UNIT_UJ MODULUS_UJ EPOCH_NS MIRROR PATH|WAVE     (MIRROR: number of the zone shown, or -1)
 *	           go                                                             answered by "ready TID TID ..." or "failed WHY"
 *	           set ZONE VALUE_UJ          holds a zone at a value             answered by "ok"
 *	           freeze                     holds all as they are               answered by "ok VALUE VALUE ..."
 *	           punctual                   how late it was at most        answered by "ok AGE_NS DELAY_NS"
 *	end of input ends the program. */
#define _GNU_SOURCE
#include "wave.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ZONES_MAX 64

struct zone {
	struct wave wave;
	int64_t epoch_ns;
	uint64_t start_uj, unit_uj, modulus_uj, shown_uj;
	int mirror, held, fd;
	char path[4096];
	_Atomic int tid;
	volatile uint64_t __attribute__((vector_size(16))) *digits;
};

static struct {
	struct zone zone[ZONES_MAX];
	int count;
	pthread_mutex_t lock;
	_Atomic int running;
	int64_t period_ns;
	int64_t moved_ns; /* when the energies shown were true */
	int64_t longest_age_ns, longest_delay_ns;
} mover;

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void show(struct zone *zone, uint64_t value_uj)
{
	char text[32];
	int length;
	uint64_t __attribute__((vector_size(16))) digits;

	zone->shown_uj = value_uj;
	if (zone->digits == NULL) {
		length = snprintf(text, sizeof text, "%" PRIu64 "\n", value_uj > 0 ? value_uj : 1);
		if (write(zone->fd, text, (size_t)length) != length)
			perror("powercap_mover: write");
		return;
	}
	snprintf(text, sizeof text, "%015" PRIu64 "\n", value_uj % 1000000000000000u);
	memcpy(&digits, text, sizeof digits);
	*zone->digits = digits;
}

static void raise_to(int64_t *most, int64_t value)
{
	*most = value > *most ? value : *most;
}

/* A busy machine lets the mover wait: how old a number became before the next stood there, and how long it took from
 * the clock to the number. */
static void note_punctuality(int64_t at_ns)
{
	int64_t shown_ns = now_ns();

	if (mover.moved_ns != 0)
		raise_to(&mover.longest_age_ns, shown_ns - mover.moved_ns);
	raise_to(&mover.longest_delay_ns, shown_ns - at_ns);
	mover.moved_ns = at_ns;
}

static void move(void)
{
	int64_t at_ns = now_ns();

	for (int i = 0; i < mover.count; i++) {
		struct zone *zone = &mover.zone[i];
		double energy_j;
		uint64_t energy_uj;

		if (zone->held)
			continue;
		if (zone->mirror >= 0) {
			show(zone, mover.zone[zone->mirror].shown_uj);
			continue;
		}
		energy_j = wave_energy_j(&zone->wave, (double)(at_ns - zone->epoch_ns) * 1e-9);
		energy_uj = zone->start_uj + (uint64_t)(energy_j > 0 ? energy_j * 1e6 : 0);
		show(zone, energy_uj / zone->unit_uj * zone->unit_uj % zone->modulus_uj);
	}
	note_punctuality(at_ns);
}

/* Hardware is not scheduled: where the kernel allows it, no program of a busy machine goes before the mover. */
static void go_before_others(void)
{
	struct sched_param first = {.sched_priority = 1};

	prctl(PR_SET_TIMERSLACK, 1);
	if (sched_setscheduler(0, SCHED_FIFO, &first) != 0)
		setpriority(PRIO_PROCESS, 0, -20);
}

static void *run(void *unused)
{
	int64_t next_ns = now_ns();

	go_before_others();
	while (mover.running) {
		struct timespec until = {next_ns / 1000000000, next_ns % 1000000000};

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		pthread_mutex_lock(&mover.lock);
		move();
		pthread_mutex_unlock(&mover.lock);
		next_ns += mover.period_ns;
		if (next_ns < now_ns())
			next_ns = now_ns() + mover.period_ns;
	}
	return unused;
}

/* A zone's thread does nothing but own a number. */
static void *park(void *argument)
{
	struct zone *zone = argument;

	zone->tid = (int)syscall(SYS_gettid);
	for (;;)
		pause();
	return NULL;
}

static int open_kernel(struct zone *zone)
{
	char path[64], text[32] = "";
	pthread_t thread;
	int reader;

	if (pthread_create(&thread, NULL, park, zone) != 0)
		return -1;
	while (zone->tid == 0)
		sched_yield();
	snprintf(path, sizeof path, "/proc/%d/timerslack_ns", zone->tid);
	zone->fd = open(path, O_WRONLY | O_CLOEXEC);
	if (zone->fd < 0 || write(zone->fd, "262143328850\n", 13) != 13)
		return -1;
	reader = open(path, O_RDONLY | O_CLOEXEC);
	if (reader < 0 || pread(reader, text, sizeof text, 0) != 13 || strcmp(text, "262143328850\n") != 0)
		return errno = errno != 0 ? errno : EIO, -1;
	return close(reader);
}

static int open_file(struct zone *zone)
{
	int fd = open(zone->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0 || ftruncate(fd, 16) != 0)
		return -1;
	zone->digits = mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return zone->digits == MAP_FAILED ? -1 : 0;
}

static int add(const char *text)
{
	struct zone *zone = &mover.zone[mover.count];
	const char *bar;
	int used = 0;

	if (mover.count == ZONES_MAX ||
		sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNd64 " %d %n", &zone->start_uj, &zone->unit_uj,
			   &zone->modulus_uj, &zone->epoch_ns, &zone->mirror, &used) != 5)
		return -1;
	text += used;
	bar = strchr(text, '|');
	if (bar == NULL || (size_t)(bar - text) >= sizeof zone->path || wave_parse(&zone->wave, bar + 1) != 0)
		return -1;
	if (zone->unit_uj == 0 || zone->modulus_uj == 0 || zone->mirror >= mover.count)
		return -1;
	memcpy(zone->path, text, (size_t)(bar - text));
	mover.count++;
	return 0;
}

static int go(int kernel)
{
	pthread_mutexattr_t attributes;
	pthread_t thread;

	/* A command that holds the lock runs as the mover does while the mover waits for it. */
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&mover.lock, &attributes);
	for (int i = 0; i < mover.count; i++)
		if ((kernel ? open_kernel(&mover.zone[i]) : open_file(&mover.zone[i])) != 0)
			return printf("failed %s\n", strerror(errno)), -1;
	move();
	mover.running = 1;
	if (pthread_create(&thread, NULL, run, NULL) != 0)
		return printf("failed thread\n"), -1;
	printf("ready");
	for (int i = 0; i < mover.count; i++)
		printf(" %d", mover.zone[i].tid);
	printf("\n");
	return 0;
}

static void command(const char *line)
{
	uint64_t value;
	int index;

	pthread_mutex_lock(&mover.lock);
	if (sscanf(line, "set %d %" SCNu64, &index, &value) == 2 && index >= 0 && index < mover.count) {
		mover.zone[index].held = 1;
		show(&mover.zone[index], value);
		printf("ok\n");
	} else if (strncmp(line, "punctual", 8) == 0) {
		raise_to(&mover.longest_age_ns, now_ns() - mover.moved_ns);
		printf("ok %" PRId64 " %" PRId64 "\n", mover.longest_age_ns, mover.longest_delay_ns);
	} else if (strncmp(line, "freeze", 6) == 0) {
		move();
		printf("ok");
		for (int i = 0; i < mover.count; i++) {
			mover.zone[i].held = 1;
			printf(" %" PRIu64, mover.zone[i].shown_uj);
		}
		printf("\n");
	} else
		printf("failed not understood: %s", line);
	pthread_mutex_unlock(&mover.lock);
}

int main(int argc, char **argv)
{
	static char line[WAVE_STEPS_MAX * 48 + 4096];
	int kernel = argc == 3 && strcmp(argv[2], "kernel") == 0;

	if (argc != 3 || (mover.period_ns = atoll(argv[1]) * 1000) <= 0)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGINT, SIG_IGN); /* a Ctrl-C is the test's, which closes our input */
	if (kernel && geteuid() != 0 && unshare(CLONE_NEWUSER) != 0)
		return printf("failed no user namespace: %s\n", strerror(errno)), 1;
	while (fgets(line, sizeof line, stdin) != NULL) {
		if (mover.running)
			command(line);
		else if (strncmp(line, "go", 2) == 0) {
			if (go(kernel) != 0)
				return 1;
		} else if (strncmp(line, "zone ", 5) != 0 || add(line + 5) != 0)
			return printf("failed not understood: %s", line), 2;
	}
	return 0;
}
