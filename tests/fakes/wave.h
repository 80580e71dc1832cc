/* Power as a function of time, its exact integral, and the moments at which a sensor shows a new value.
 * SPDX-License-Identifier: Apache-2.0
 *
 * wave.py holds the same formulas in the same order, so both give the same bits. Time is seconds since an epoch that the
 * script names; before it the first value holds (periodic waves go on backwards), so a running mean is right from the start.
 *
 *	constant W            ramp W0 W1 SECONDS        steps T:W T:W ...  (T rising)
 *	square LOW HIGH PERIOD DUTY                     sine MEAN AMPLITUDE PERIOD        (HIGH for the first DUTY of a period)
 */
#ifndef FAKES_WAVE_H
#define FAKES_WAVE_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAVE_STEPS_MAX 256

enum wave_kind { WAVE_CONSTANT, WAVE_RAMP, WAVE_STEPS, WAVE_SQUARE, WAVE_SINE };

struct wave {
	enum wave_kind kind;
	int count;                        /* steps */
	double value[4];                  /* the arguments in the order of the text */
	double at_s[WAVE_STEPS_MAX], watts[WAVE_STEPS_MAX];
};

static inline double wave_energy_j(const struct wave *wave, double t)
{
	const double *v = wave->value;
	double energy_j, cycles, rest;

	switch (wave->kind) {
	case WAVE_CONSTANT:
		return v[0] * t;
	case WAVE_RAMP:
		if (t <= 0)
			return v[0] * t;
		if (t >= v[2])
			return (v[0] + v[1]) / 2 * v[2] + v[1] * (t - v[2]);
		return v[0] * t + (v[1] - v[0]) / v[2] * t * t / 2;
	case WAVE_STEPS:
		energy_j = wave->watts[0] * (t < wave->at_s[0] ? t : wave->at_s[0]);
		for (int i = 0; i < wave->count && wave->at_s[i] < t; i++) {
			double end = i + 1 < wave->count && wave->at_s[i + 1] < t ? wave->at_s[i + 1] : t;
			energy_j += wave->watts[i] * (end - wave->at_s[i]);
		}
		return energy_j;
	case WAVE_SQUARE:
		cycles = floor(t / v[2]);
		rest = t - cycles * v[2];
		energy_j = cycles * v[2] * (v[1] * v[3] + v[0] * (1 - v[3]));
		if (rest <= v[2] * v[3])
			return energy_j + v[1] * rest;
		return energy_j + v[1] * v[2] * v[3] + v[0] * (rest - v[2] * v[3]);
	case WAVE_SINE:
		return v[0] * t + v[1] * v[2] / (2 * M_PI) * (1 - cos(2 * M_PI * t / v[2]));
	}
	return 0;
}

static inline double wave_power_w(const struct wave *wave, double t)
{
	const double *v = wave->value;
	double watts;

	switch (wave->kind) {
	case WAVE_CONSTANT:
		return v[0];
	case WAVE_RAMP:
		return t <= 0 ? v[0] : t >= v[2] ? v[1] : v[0] + (v[1] - v[0]) / v[2] * t;
	case WAVE_STEPS:
		watts = wave->watts[0];
		for (int i = 0; i < wave->count && wave->at_s[i] <= t; i++)
			watts = wave->watts[i];
		return watts;
	case WAVE_SQUARE:
		return t - floor(t / v[2]) * v[2] < v[2] * v[3] ? v[1] : v[0];
	case WAVE_SINE:
		return v[0] + v[1] * sin(2 * M_PI * t / v[2]);
	}
	return 0;
}

/* Reads the text form; returns 0, or -1 when it is none of the above. */
static inline int wave_parse(struct wave *wave, const char *text)
{
	static const struct {
		const char *name;
		enum wave_kind kind;
		int arguments;
	} forms[] = {
		{"constant", WAVE_CONSTANT, 1}, {"ramp", WAVE_RAMP, 3}, {"square", WAVE_SQUARE, 4}, {"sine", WAVE_SINE, 3}};
	char name[16];
	int used = 0, got;

	memset(wave, 0, sizeof *wave);
	if (sscanf(text, "%15s%n", name, &used) != 1)
		return -1;
	text += used;
	if (strcmp(name, "steps") == 0) {
		wave->kind = WAVE_STEPS;
		while (wave->count < WAVE_STEPS_MAX &&
			   sscanf(text, " %lf:%lf%n", &wave->at_s[wave->count], &wave->watts[wave->count], &used) == 2) {
			wave->count++;
			text += used;
		}
		return wave->count > 0 ? 0 : -1;
	}
	for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
		if (strcmp(name, forms[i].name) == 0) {
			wave->kind = forms[i].kind;
			got = sscanf(text, "%lf %lf %lf %lf", &wave->value[0], &wave->value[1], &wave->value[2], &wave->value[3]);
			return got == forms[i].arguments ? 0 : -1;
		}
	return -1;
}

/* When a sensor shows a new value: every period, at a phase after the epoch, each update moved by up to +-jitter. */
struct updates {
	int64_t period_ns; /* 0: every moment is an update */
	int64_t phase_ns;
	int64_t jitter_ns; /* less than half the period */
	uint64_t seed;
};

static inline int64_t updates_at_ns(const struct updates *updates, int64_t epoch_ns, int64_t k)
{
	uint64_t x = updates->seed * 0x9e3779b97f4a7c15u + (uint64_t)k; /* splitmix64's finaliser */
	int64_t shift = 0;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	x ^= x >> 31;
	if (updates->jitter_ns > 0)
		shift = (int64_t)(x % (uint64_t)(2 * updates->jitter_ns + 1)) - updates->jitter_ns;
	return epoch_ns + updates->phase_ns + k * updates->period_ns + shift;
}

/* The number of the last update at or before now. */
static inline int64_t updates_last(const struct updates *updates, int64_t epoch_ns, int64_t now_ns)
{
	int64_t since = now_ns - epoch_ns - updates->phase_ns, k = since / updates->period_ns + 1;

	while (updates_at_ns(updates, epoch_ns, k) > now_ns)
		k--;
	return k;
}

static inline int64_t updates_last_ns(const struct updates *updates, int64_t epoch_ns, int64_t now_ns)
{
	if (updates->period_ns <= 0)
		return now_ns;
	return updates_at_ns(updates, epoch_ns, updates_last(updates, epoch_ns, now_ns));
}

#endif
