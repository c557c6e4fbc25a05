helpers += $(LIBEXEC)/bulkcat
$(LIBEXEC)/bulkcat: LIBS = $(SSL_LIBS)
$(LIBEXEC)/bulkcat: $(call objs,clients/bulkcat/main.c clients/bulkcat/copy.c bus/bulk.c bus/record.c bus/gcm.c) $(LIBCM)
	$(LINK)
