bins += $(BIN)/bpevents
$(BIN)/bpevents: LIBS = $(MP_LIBS) $(JSON_LIBS)
$(BIN)/bpevents: $(call objs,clients/bpevents/main.c clients/bpevents/watch.c) \
                 $(B)/libclients.a $(LIBCM)
	$(LINK)
