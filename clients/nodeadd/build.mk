bins += $(BIN)/nodeadd
$(BIN)/nodeadd: LIBS = $(MP_LIBS) $(JSON_LIBS)
$(BIN)/nodeadd: $(call objs,clients/nodeadd/main.c clients/nodeadd/append.c) $(B)/libclients.a $(LIBCM)
	$(LINK)
