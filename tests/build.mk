# What the integration tests start on nodes. Without the sanitizers: it dies on purpose.
$(B)/tests/body: tests/body.c
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -O2 -g -Wall -Wextra -Werror -Wshadow -D_GNU_SOURCE -o $@ $<
units: $(B)/tests/body
# A policy that crashes sched.
$(B)/tests/policies/crash.so: tests/crash-policy.c services/sched/policy.h
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -O2 -g -Wall -Wextra -Werror -Wshadow -D_GNU_SOURCE -I. -fPIC -shared -o $@ $<
units: $(B)/tests/policies/crash.so
