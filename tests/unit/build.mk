# Unit tests: each prints TAP and links what it tests. One group of lines each.

unit += $(B)/tests/unit/nodespec
$(B)/tests/unit/nodespec: LIBS = $(MP_LIBS)
$(B)/tests/unit/nodespec: $(call objs,tests/unit/nodespec.c) $(LIBCM)
	$(LINK)

unit += $(B)/tests/unit/ghost
$(B)/tests/unit/ghost: LIBS = $(MP_LIBS)
$(B)/tests/unit/ghost: $(call objs,tests/unit/ghost.c) $(LIBCM) | $(LIBEXEC)/bpghost
	$(LINK)

unit += $(B)/tests/unit/config
$(B)/tests/unit/config: LIBS = $(MP_LIBS)
$(B)/tests/unit/config: $(call objs,tests/unit/config.c) $(LIBCM)
	$(LINK)

unit += $(B)/tests/unit/bulk
$(B)/tests/unit/bulk: LIBS = $(SSL_LIBS)
$(B)/tests/unit/bulk: $(call objs,tests/unit/bulk.c bus/bulk.c bus/record.c bus/gcm.c clients/bulkcat/copy.c) \
    $(LIBCM)
	$(LINK)

unit += $(B)/tests/unit/image_pipe
$(B)/tests/unit/image_pipe: LIBS = $(SSL_LIBS)
$(B)/tests/unit/image_pipe: $(call objs,tests/unit/image_pipe.c image/pipe.c image/pump.c image/write.c \
                            image/maps.c bus/bulk.c bus/record.c bus/gcm.c) $(LIBCM)
	$(LINK)

unit += $(B)/tests/unit/crc
$(B)/tests/unit/crc: $(call objs,tests/unit/crc.c) $(LIBCM)
	$(LINK)

unit += $(B)/tests/unit/stream
$(B)/tests/unit/stream: $(call objs,tests/unit/stream.c) $(LIBCM)
	$(LINK)

unit += $(B)/tests/unit/store
$(B)/tests/unit/store: LIBS = $(SQLITE_LIBS)
$(B)/tests/unit/store: $(call objs,tests/unit/store.c bus/store.c) $(LIBCM)
	$(LINK)

unit += $(B)/tests/unit/clients
$(B)/tests/unit/clients: LIBS = $(MP_LIBS) $(JSON_LIBS)
$(B)/tests/unit/clients: $(call objs,tests/unit/clients.c clients/bpps/fetch.c \
                         clients/bpps/tree.c) $(B)/libclients.a $(LIBCM)
	$(LINK)

unit += $(B)/tests/unit/agent_files
$(B)/tests/unit/agent_files: LIBS = $(MP_LIBS) $(SSL_LIBS) $(ZMQ_LIBS)
$(B)/tests/unit/agent_files: $(call objs,tests/unit/agent_files.c node/agent/files.c \
                             node/agent/cache.c node/agent/fetch.c node/agent/place.c bus/bulk.c bus/record.c bus/gcm.c \
                             bus/svc.c bus/svc_ready.c bus/zloop.c) $(LIBCM)
	$(LINK)

unit += $(B)/tests/unit/agent_streams
$(B)/tests/unit/agent_streams: LIBS = $(MP_LIBS) $(ZMQ_LIBS) $(SSL_LIBS)
$(B)/tests/unit/agent_streams: $(call objs,tests/unit/agent_streams.c node/rings.c \
    $(addprefix node/agent/,streams.c stream_out.c stream_in.c bulk_out.c) bus/bulk.c bus/record.c bus/gcm.c) \
    $(LIBCM)
	$(LINK)

unit += $(B)/tests/unit/spawn
$(B)/tests/unit/spawn: LIBS = $(MP_LIBS)
$(B)/tests/unit/spawn: $(call objs,tests/unit/spawn.c) $(LIBCM) | $(LIBEXEC)/bpinit $(LIBEXEC)/bpghost
	$(LINK)

unit += $(B)/tests/unit/rings
$(B)/tests/unit/rings: $(call objs,tests/unit/rings.c node/rings.c) $(LIBCM)
	$(LINK)

unit += $(B)/tests/unit/nodes
$(B)/tests/unit/nodes: LIBS = $(MP_LIBS) $(SQLITE_LIBS)
$(B)/tests/unit/nodes: $(call objs,tests/unit/nodes.c services/nodemgr/nodes.c \
                       services/nodemgr/rules.c services/nodemgr/db.c bus/store.c) $(LIBCM)
	$(LINK)

unit += $(B)/tests/unit/wire $(B)/tests/unit/pkt $(B)/tests/unit/svc
$(B)/tests/unit/wire $(B)/tests/unit/pkt: LIBS = $(MP_LIBS)
$(B)/tests/unit/wire: $(call objs,tests/unit/wire.c) $(LIBCM)
	$(LINK)
$(B)/tests/unit/pkt: $(call objs,tests/unit/pkt.c) $(LIBCM)
	$(LINK)
$(B)/tests/unit/svc: LIBS = $(ZMQ_LIBS) $(MP_LIBS)
$(B)/tests/unit/svc: $(call objs,tests/unit/svc.c) $(LIBBUS) $(LIBCM) | $(LIBEXEC)/busd
	$(LINK)

unit += $(B)/tests/unit/bpsh_output
$(B)/tests/unit/bpsh_output: LIBS = $(MP_LIBS)
$(B)/tests/unit/bpsh_output: $(call objs,tests/unit/bpsh_output.c clients/bpsh/output.c \
    clients/bpsh/sink.c clients/bpsh/fold.c) $(LIBCM)
	$(LINK)

unit += $(B)/tests/unit/bpsh_reader
$(B)/tests/unit/bpsh_reader: LIBS = $(MP_LIBS)
$(B)/tests/unit/bpsh_reader: $(call objs,tests/unit/bpsh_reader.c clients/bpsh/reader.c) $(LIBCM)
	$(LINK)

unit += $(B)/tests/unit/bpsh_input
$(B)/tests/unit/bpsh_input: LIBS = $(MP_LIBS)
$(B)/tests/unit/bpsh_input: $(call objs,tests/unit/bpsh_input.c clients/bpsh/input.c \
    clients/bpsh/reader.c) $(LIBCM)
	$(LINK)

unit += $(B)/tests/unit/copy
$(B)/tests/unit/copy: LIBS = $(MP_LIBS) -lcrypto
$(B)/tests/unit/copy: $(call objs,tests/unit/copy.c) $(B)/libcopy.a $(LIBCM)
	$(LINK)

unit += $(B)/tests/unit/image
$(B)/tests/unit/image: LIBS = $(SSL_LIBS)
$(B)/tests/unit/image: $(call objs,tests/unit/image.c bus/image.c) $(LIBCM)
	$(LINK)

unit += $(B)/tests/unit/spread
$(B)/tests/unit/spread: $(call objs,tests/unit/spread.c services/bootsrv/spread.c) $(LIBCM)
	$(LINK)

unit += $(B)/tests/unit/boot
$(B)/tests/unit/boot: $(call objs,tests/unit/boot.c node/boot/params.c node/boot/modules.c \
    node/boot/dhcp.c) $(LIBCM)
	$(LINK)

unit += $(B)/tests/unit/sched
$(B)/tests/unit/sched: LIBS = $(MP_LIBS) -ldl -lm
$(B)/tests/unit/sched: $(call objs,tests/unit/sched.c $(sched_core)) $(B)/obj/$(SCHED)/builtin.o \
    $(LIBCM) | $(policy_files)
	$(LINK)
